"""All that an issued document says, as plain data: what its hash covers and what its pictures are drawn from.

Amounts are whole nano-USD. The hash is of the canonical JSON (sorted names, no blanks, UTF-8), so that anybody who has
the data can check that a document is the one that was issued.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from raymart_billing.invoices.models import CreditNote, CreditNoteLine, Invoice, InvoiceLine
from raymart_core.ids import Prefix, show


def invoice_content(invoice: Invoice, lines: Sequence[InvoiceLine]) -> dict[str, Any]:
    """What `invoice` says; of a draft, what it would say."""
    return {
        "document": "invoice",
        "id": show(Prefix.INVOICE, invoice.id),
        "number": invoice.number,
        "organization": show(Prefix.ORGANIZATION, invoice.organization_id),
        "currency": invoice.asset.value,
        "period_start": invoice.period_start.isoformat(),
        "period_end": invoice.period_end.isoformat(),
        "booked_until": _time(invoice.booked_until),
        "after_transfer": invoice.after_transfer_id,
        "up_to_transfer": invoice.up_to_transfer_id,
        "issued_at": _time(invoice.issued_at),
        "seller": invoice.seller,
        "buyer": invoice.buyer,
        "opening": invoice.opening_nano_usd,
        "closing": invoice.closing_nano_usd,
        "charged": invoice.charged_nano_usd,
        "lines": [
            {
                "position": line.position,
                "kind": line.kind.value,
                "code": line.code,
                "description": line.description,
                "occurred_at": _time(line.occurred_at),
                "transfers": line.transfers,
                "usage_month": line.usage_month.isoformat() if line.usage_month else None,
                "model": show(Prefix.MODEL, line.model_id) if line.model_id else None,
                "unit": line.unit,
                "scale": line.scale,
                "quantity": line.quantity,
                "unit_price": line.unit_price_nano_usd,
                "amount": line.amount_nano_usd,
            }
            for line in lines
        ],
    }


def credit_note_content(
    note: CreditNote, lines: Sequence[CreditNoteLine], *, invoice: Invoice
) -> dict[str, Any]:
    """What `note` says about `invoice`; its parties are the invoice's."""
    return {
        "document": "credit_note",
        "id": show(Prefix.CREDIT_NOTE, note.id),
        "number": note.number,
        "organization": show(Prefix.ORGANIZATION, note.organization_id),
        "currency": invoice.asset.value,
        "issued_at": _time(note.issued_at),
        "seller": invoice.seller,
        "buyer": invoice.buyer,
        "invoice": invoice.number,
        "invoice_issued_at": _time(invoice.issued_at),
        "reason": note.reason,
        "amount": note.amount_nano_usd,
        "lines": [
            {"position": line.position, "description": line.description, "amount": line.amount_nano_usd}
            for line in lines
        ],
    }


def content_sha256(content: Mapping[str, Any]) -> bytes:
    """The hash of a document's content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
