"""What a document shows, worded and formatted: between the stored document and its template. Pure.

Amounts are shown in whole cents, rounded half to even, with all digits beneath where that hides something; sums are
made of the exact amounts and rounded once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from raymart_billing.invoices.figures import day_text, exact, price_text, quantity_text, rounded_half_even
from raymart_billing.invoices.models import (
    CreditNote,
    CreditNoteLine,
    CreditNoteState,
    Invoice,
    InvoiceLine,
    InvoiceState,
    LineKind,
)
from raymart_billing.invoices.party import Party
from raymart_core.units import Unit

ROWS_MAX = 2_000
"""Lines that are printed, about 80 pages; the CSV has them all."""
_SUMS = {
    LineKind.REFUND: "Refunds",
    LineKind.ADJUSTMENT: "Corrections",
    LineKind.DEPOSIT: "Deposits",
    LineKind.GRANT: "Promotional credit",
    LineKind.DISPUTE: "Disputes",
    LineKind.OTHER: "Other bookings",
}
_STANDING = {
    InvoiceState.DRAFT: "A draft: not an invoice yet, and it may still change.",
    InvoiceState.FINAL: "Paid in full from your balance. Nothing is due.",
    InvoiceState.VOID: "Withdrawn. This is no valid invoice.",
}
ROUNDING_NOTE = (
    "Amounts are shown in US dollars, rounded half to even to whole cents; where that hides something, the exact amount "
    "stands beside or beneath it in small print. Sums are made of the exact amounts. All times are UTC."
)
_FONTS = "Some characters of a name are not in the fonts of this document; the exact text is in your account."


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """An amount as shown, and all its digits where those are more."""

    shown: str
    exact: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A party as shown."""

    name: str
    lines: list[str]
    imprint: str
    """All of it in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One document, ready to be set. Field names are the template's."""

    title: str
    number: str | None
    badge: str | None
    """DRAFT or VOID."""
    dated: datetime
    """What the file says of its making: the document's own time, so that its bytes are always the same."""
    currency: str
    seller: Side
    buyer: Side
    facts: list[dict[str, str]]
    summary: dict[str, Any]
    void: dict[str, str] | None = None
    reason: str | None = None
    sections: list[dict[str, Any]] = field(default_factory=list)
    more: str | None = None
    balance: list[dict[str, Any]] = field(default_factory=list)
    credit_notes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def invoice_sheet(
    invoice: Invoice,
    lines: Sequence[InvoiceLine],
    notes: Sequence[CreditNote],
    *,
    seller: Party | None = None,
    buyer: Party | None = None,
) -> Sheet:
    """`invoice` as it is shown. A draft has no parties of its own yet: give those it would have."""
    sides = side_of(invoice.seller or _frozen(seller)), side_of(invoice.buyer or _frozen(buyer))
    shown = lines[:ROWS_MAX]
    first, last = invoice.period_start, invoice.period_end - timedelta(days=1)
    facts = [fact("Period", f"{first:%B %Y}")]
    if invoice.issued_at:
        facts.insert(0, fact("Date of issue", day_text(invoice.issued_at)))
    facts += [fact("From", day_text(first)), fact("To", day_text(last))]
    return Sheet(
        title="Invoice",
        number=invoice.number,
        badge=None if invoice.state is InvoiceState.FINAL else invoice.state.value.upper(),
        dated=invoice.issued_at or invoice.booked_until,
        currency="USD",
        seller=sides[0],
        buyer=sides[1],
        facts=facts,
        summary={
            "name": f"Charged for {first:%B %Y}",
            "words": _STANDING[invoice.state],
            "amount": rounded_half_even(invoice.charged_nano_usd),
            "exact": exact(invoice.charged_nano_usd),
        },
        void=_void(invoice),
        sections=_sections(shown, invoice),
        more=_more(lines[ROWS_MAX:]),
        balance=_balance(invoice, lines),
        credit_notes=[
            {
                "number": note.number or "",
                "date": day_text(note.issued_at or note.created_at),
                "reason": note.reason,
                "amount": amount_of(note.amount_nano_usd),
            }
            for note in notes
        ],
        notes=[
            f"Booked up to {_moment_text(invoice.booked_until)}. Usage that was booked later is on the next invoice.",
            ROUNDING_NOTE,
            *hash_note(invoice.content_sha256),
            *font_note(sides),
        ],
    )


def credit_note_sheet(note: CreditNote, lines: Sequence[CreditNoteLine], invoice: Invoice) -> Sheet:
    """`note` as it is shown; its parties are those of the invoice that it corrects."""
    sides = side_of(_known(invoice.seller)), side_of(_known(invoice.buyer))
    facts = [fact("Corrects invoice", invoice.number or "")]
    if note.issued_at:
        facts.insert(0, fact("Date of issue", day_text(note.issued_at)))
    facts.append(fact("Invoice period", f"{invoice.period_start:%B %Y}"))
    rows = [
        {"date": str(line.position + 1), "name": line.description, "amount": amount_of(line.amount_nano_usd)}
        for line in lines
    ]
    issued = note.state is CreditNoteState.ISSUED
    return Sheet(
        title="Credit note",
        number=note.number,
        badge=None if issued else note.state.value.upper(),
        dated=note.issued_at or note.created_at,
        currency="USD",
        seller=sides[0],
        buyer=sides[1],
        facts=facts,
        summary={
            "name": "Credited",
            "words": "Paid into your balance." if issued else "Not paid yet.",
            "amount": rounded_half_even(note.amount_nano_usd),
            "exact": exact(note.amount_nano_usd),
        },
        reason=note.reason,
        sections=[
            {
                "kind": "plain",
                "title": "Corrections",
                "heads": ["No.", "What is corrected"],
                "rows": rows,
                "total": {"name": "Total credited", "amount": amount_of(note.amount_nano_usd)},
            }
        ],
        notes=[ROUNDING_NOTE, *hash_note(note.content_sha256), *font_note(sides)],
    )


def _sections(lines: Sequence[InvoiceLine], invoice: Invoice) -> list[dict[str, Any]]:
    usage = [line for line in lines if line.kind in {LineKind.USAGE, LineKind.USAGE_WAIVED}]
    others = [line for line in lines if line.kind not in {LineKind.USAGE, LineKind.USAGE_WAIVED}]
    sections: list[dict[str, Any]] = []
    if usage:
        total = {"name": "Usage charged", "amount": amount_of(invoice.charged_nano_usd)}
        rows = [_usage_row(line) for line in usage]
        sections.append({"kind": "usage", "title": "Usage", "rows": rows, "total": total})
    if others:
        rows = [
            {
                "date": f"{line.occurred_at.astimezone(UTC):%d %b %Y}"
                if line.occurred_at
                else f"{invoice.period_start:%b %Y}",
                "name": line.description,
                "amount": amount_of(line.amount_nano_usd),
            }
            for line in others
        ]
        sections.append(
            {
                "kind": "plain",
                "title": "Payments and credits",
                "heads": ["Date", "Booking"],
                "rows": rows,
                "total": None,
            }
        )
    return sections


def _usage_row(line: InvoiceLine) -> dict[str, Any]:
    if line.unit is None or line.quantity is None or line.scale is None or line.unit_price_nano_usd is None:
        return {
            "name": line.description,
            "detail": None,
            "quantity": "",
            "price": "",
            "per": None,
            "amount": amount_of(-line.amount_nano_usd),
        }
    name, _, unit_words = line.description.partition(": ")
    price, per = price_text(line.unit_price_nano_usd, Unit(line.unit))
    requests = "1 request" if line.transfers == 1 else f"{line.transfers:,} requests"
    return {
        "name": name,
        "detail": f"{unit_words} · {requests}",
        "quantity": quantity_text(line.quantity, line.scale),
        "price": price,
        "per": per,
        "amount": amount_of(-line.amount_nano_usd),
    }


def _balance(invoice: Invoice, lines: Sequence[InvoiceLine]) -> list[dict[str, Any]]:
    """Opening balance, what changed it by kind, closing balance."""
    rows = [("Opening balance", invoice.opening_nano_usd)]
    if invoice.charged_nano_usd:
        rows.append(("Usage charged", -invoice.charged_nano_usd))
    others = [line for line in lines if line.kind in _SUMS]
    rows += [
        (_SUMS[kind], sum(line.amount_nano_usd for line in group))
        for kind, group in groupby(others, key=lambda line: line.kind)
    ]
    rows.append(("Closing balance", invoice.closing_nano_usd))
    return [{"name": name, "amount": amount_of(amount)} for name, amount in rows]


def _more(hidden: Sequence[InvoiceLine]) -> str | None:
    if not hidden:
        return None
    total = sum(line.amount_nano_usd for line in hidden)
    return f"{len(hidden):,} more lines, together {exact(total) or rounded_half_even(total)}, are in the CSV of this invoice."


def _void(invoice: Invoice) -> dict[str, str] | None:
    if invoice.voided_at is None or invoice.void_reason is None:
        return None
    return {"on": day_text(invoice.voided_at), "reason": invoice.void_reason}


def amount_of(nano_usd: int) -> Amount:
    """`nano_usd` as it is shown."""
    return Amount(shown=rounded_half_even(nano_usd), exact=exact(nano_usd))


def _moment_text(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{day_text(moment)}, {moment:%H:%M:%S} UTC"


def fact(name: str, value: str) -> dict[str, str]:
    """One line of the head."""
    return {"name": name, "value": value}


def _frozen(party: Party | None) -> dict[str, Any]:
    assert party is not None, "a draft is shown with the parties that it would have"
    return party.frozen()


def _known(party: dict[str, Any] | None) -> dict[str, Any]:
    assert party is not None, "a credit note corrects an invoice that was final"
    return party


def side_of(party: dict[str, Any]) -> Side:
    """A frozen party as it is shown."""
    rows = [*party["address"].splitlines(), party["country"]]
    if party["tax_id"]:
        rows.append(f"Tax id {party['tax_id']}")
    rows.append(party["email"])
    lines = [row for row in rows if row]
    return Side(name=party["legal_name"], lines=lines, imprint=" · ".join([party["legal_name"], *lines]))


def hash_note(content_sha256: bytes | None) -> Iterable[str]:
    """The note that tells of the content's hash; none for a draft."""
    if content_sha256:
        yield f"SHA-256 of this document's content: {content_sha256.hex()}"


def font_note(sides: Iterable[Side]) -> Iterable[str]:
    """The note that tells of characters beyond the built-in fonts, where there are any."""
    if any(_is_beyond_fonts(char) for side in sides for char in side.imprint):
        yield _FONTS


def _is_beyond_fonts(char: str) -> bool:
    """Whether the built-in fonts lack `char`: they hold Latin, Greek, Cyrillic, Hebrew and Arabic with their marks."""
    code = ord(char)
    return not (
        code < 0x0700 or 0x1E00 <= code <= 0x22FF or 0x2500 <= code <= 0x26FF or 0xFB00 <= code <= 0xFEFC
    )
