"""An invoice that was never stored, to be looked at."""

from datetime import UTC, date, datetime
from typing import Any

from raymart_billing.invoices import (
    CreditNote,
    CreditNoteState,
    Invoice,
    InvoiceLine,
    InvoiceState,
    LineKind,
    Party,
)
from raymart_core.ids import new_id
from raymart_core.money import Asset

SELLER = Party(
    legal_name="Raymart Marketplace GmbH",
    address="Ledgergasse 12/4\n1070 Wien",
    country="AT",
    tax_id="ATU12345678",
    email="billing@raymart.example",
)
BUYER = Party(
    legal_name="Northwind Robotics, Inc.",
    address="548 Market Street, Suite 92\nSan Francisco, CA 94104",
    country="US",
    tax_id="12-3456789",
    email="accounts@northwind.example",
)
UNITS = (
    ("token.completion", "completion tokens", 1, 620, 184_332_019, 20_312),
    ("token.prompt", "prompt tokens", 1, 180, 912_004_551, 20_312),
    ("image.megapixel_step", "megapixel-steps", 1_000_000, 41_500, 9_912_262_144, 2_410),
    ("gpu.second", "GPU-seconds", 1_000, 520_000, 71_234, 12),
)


def sample_invoice(
    usage_lines: int = 4,
    *,
    state: InvoiceState = InvoiceState.FINAL,
    buyer: Party = BUYER,
    model: str = "acme/chat-70b",
) -> tuple[Invoice, list[InvoiceLine]]:
    """An invoice of November 2026 with `usage_lines` lines of usage, a refund, a deposit and a grant."""
    lines = [_usage(position, model) for position in range(usage_lines)]
    charged = -sum(line.amount_nano_usd for line in lines)
    others = [
        (LineKind.REFUND, "Refund", 1_204_551_200),
        (LineKind.DEPOSIT, "Deposit by card", 1_500 * 10**9),
        (LineKind.GRANT, "Promotional credit", 25 * 10**9),
    ]
    lines += [
        InvoiceLine(
            id=new_id(), position=usage_lines + index, kind=kind, code="x", description=words, transfers=1,
            occurred_at=datetime(2026, 11, 3 + index, tzinfo=UTC), amount_nano_usd=amount,
        )
        for index, (kind, words, amount) in enumerate(others)
    ]  # fmt: skip
    opening = charged
    parts: dict[str, Any] = {} if state is InvoiceState.DRAFT else {
        "number": "RM-2026-000042", "buyer": buyer.frozen(), "seller": SELLER.frozen(), "content_sha256": b"\x5a" * 32,
        "issued_at": datetime(2026, 12, 2, 0, 5, tzinfo=UTC),
    }  # fmt: skip
    if state is InvoiceState.VOID:
        parts |= {
            "void_reason": "Made out to the wrong company.",
            "voided_at": datetime(2026, 12, 4, tzinfo=UTC),
        }
    invoice = Invoice(
        id=new_id(), organization_id=new_id(), state=state, asset=Asset.USD, period_start=date(2026, 11, 1),
        period_end=date(2026, 12, 1), after_transfer_id=0, up_to_transfer_id=99,
        booked_until=datetime(2026, 12, 1, tzinfo=UTC), opening_nano_usd=opening,
        closing_nano_usd=opening + sum(line.amount_nano_usd for line in lines), charged_nano_usd=charged, **parts,
    )  # fmt: skip
    return invoice, lines


def sample_credit_note(invoice: Invoice) -> CreditNote:
    """Five dollars back."""
    return CreditNote(
        id=new_id(), organization_id=invoice.organization_id, invoice_id=invoice.id, state=CreditNoteState.ISSUED,
        reason="Degraded images on 12 November", amount_nano_usd=5 * 10**9, number="RMC-2026-000003",
        content_sha256=b"\x5b" * 32, issued_at=datetime(2026, 12, 9, tzinfo=UTC),
    )  # fmt: skip


def _usage(position: int, model: str) -> InvoiceLine:
    unit, words, scale, price, quantity, requests = UNITS[position % len(UNITS)]
    return InvoiceLine(
        id=new_id(), position=position, kind=LineKind.USAGE, code="usage_charge", description=f"{model}: {words}",
        transfers=requests, usage_month=date(2026, 11, 1), model_id=new_id(), unit=unit, scale=scale, quantity=quantity,
        unit_price_nano_usd=price, amount_nano_usd=-(quantity * price // scale),
    )  # fmt: skip
