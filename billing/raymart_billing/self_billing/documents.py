"""Self-billing invoices as they are handed out: worded for the sheet that invoices share, and as CSV. Pure, but for reading."""

import csv
import io
import re
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.documents import Readable
from raymart_billing.invoices.figures import day_text, exact, rounded_half_even
from raymart_billing.invoices.sheet import (
    ROUNDING_NOTE,
    ROWS_MAX,
    Sheet,
    amount_of,
    fact,
    font_note,
    hash_note,
    side_of,
)
from raymart_billing.self_billing.lines import Line
from raymart_billing.self_billing.models import SelfBillingInvoice
from raymart_billing.self_billing.service import SERIES
from raymart_core.money import Asset, Money

_NUMBER = re.compile(rf"{SERIES}-[0-9]{{4}}-[0-9]{{6}}", re.ASCII)
COLUMNS = ("document", "provider_payment", "day", "code", "description", "count", "amount", "currency")
_SELF_BILLED = (
    "Self-billing: this invoice is written by {recipient}, who receives the supplies, in the name and for the account of"
    " {supplier}. Taxes are the supplier's own to account for."
)


async def readable_self_billing(session: AsyncSession, number: str) -> Readable | None:
    """The document with this number, ready to be set. Raises: ValueError for what is no number of one."""
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"{number[:40]!r} is no number of a self-billing invoice")
    document = await session.scalar(select(SelfBillingInvoice).where(SelfBillingInvoice.number == number))
    if document is None:
        return None
    return Readable(
        name=document.number,
        organization_id=document.organization_id,
        sheet=self_billing_sheet(document),
        csv=self_billing_csv(document),
    )


def self_billing_sheet(document: SelfBillingInvoice) -> Sheet:
    """`document` as it is shown: supplies, how they are paid, and the balance."""
    lines = [Line.of(stored) for stored in document.lines]
    supplies = [line for line in lines if line.is_supply]
    bookings = [line for line in lines if not line.is_supply]
    sides = side_of(document.supplier), side_of(document.recipient)
    paid = Money(document.paid_micro_usdc, Asset.USDC).decimal()
    sections = [
        _section(
            "Supplies", ["Day", "Supply"], supplies[:ROWS_MAX], "Supplied in total", document.earned_nano_usd
        ),
        _section("Holdback and payments", ["Day", "Booking"], bookings[:ROWS_MAX], None, 0),
    ]
    return Sheet(
        title="Self-billing invoice",
        number=document.number,
        badge=None,
        dated=document.created_at,
        currency="USD",
        seller=sides[0],
        buyer=sides[1],
        facts=[
            fact("Date of issue", day_text(document.created_at)),
            *_period(lines),
            fact("Batch", str(document.payment["batch"])),
            fact("Paid", f"{paid:,f} USDC"),
        ],
        summary={
            "name": "Supplied",
            "words": f"Paid with {paid:,f} USDC, of which earlier periods may be a part. Nothing is to be done.",
            "amount": rounded_half_even(document.earned_nano_usd),
            "exact": exact(document.earned_nano_usd),
        },
        sections=[section for section in sections if section["rows"]],
        more=_more(supplies, bookings),
        balance=_balance(document, bookings),
        notes=[
            _SELF_BILLED.format(recipient=sides[1].name, supplier=sides[0].name),
            _paid_by(document),
            ROUNDING_NOTE,
            *hash_note(document.content_sha256),
            *font_note(sides),
        ],
    )


def self_billing_csv(document: SelfBillingInvoice) -> bytes:
    """A header, the opening balance, each line, the closing balance, the payment; every amount with all its digits. RFC 4180."""
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    head = (document.number, str(document.payment["signature"] or ""))
    writer.writerow([*head, "", "opening_balance", "", "", _digits(document.opening_nano_usd), "USD"])
    for line in map(Line.of, document.lines):
        row = (line.day.isoformat(), line.code, line.description, str(line.transfers), _digits(line.amount))
        writer.writerow([*head, *row, "USD"])
    writer.writerow([*head, "", "closing_balance", "", "", _digits(document.closing_nano_usd), "USD"])
    paid = f"{Money(document.paid_micro_usdc, Asset.USDC).decimal():f}"
    writer.writerow([*head, "", "payment", document.payment["wallet"], "1", paid, "USDC"])
    return written.getvalue().encode()


def _section(
    title: str, heads: list[str], lines: list[Line], total: str | None, amount: int
) -> dict[str, object]:
    rows = [
        {"date": f"{line.day:%d %b %Y}", "name": line.description, "amount": amount_of(line.amount)}
        for line in lines
    ]
    shown = None if total is None else {"name": total, "amount": amount_of(amount)}
    return {"kind": "plain", "title": title, "heads": heads, "rows": rows, "total": shown}


def _period(lines: list[Line]) -> list[dict[str, str]]:
    """First and last day of the lines; nothing where the range is empty."""
    if not lines:
        return []
    return [fact("From", day_text(lines[0].day)), fact("To", day_text(lines[-1].day))]


def _balance(document: SelfBillingInvoice, bookings: list[Line]) -> list[dict[str, object]]:
    """Opening balance, supplies, what else moved it, closing balance."""
    rows = [("Opening balance", document.opening_nano_usd), ("Supplied", document.earned_nano_usd)]
    sums: dict[str, int] = {}
    for line in bookings:
        sums[line.description] = sums.get(line.description, 0) + line.amount
    rows += [*sums.items(), ("Closing balance", document.closing_nano_usd)]
    return [{"name": name, "amount": amount_of(amount)} for name, amount in rows]


def _more(*parts: list[Line]) -> str | None:
    hidden = sum(max(len(part) - ROWS_MAX, 0) for part in parts)
    return f"{hidden:,} more lines are in the CSV of this document." if hidden else None


def _paid_by(document: SelfBillingInvoice) -> str:
    payment = document.payment
    if payment["signature"] is None:
        return f"Paid to wallet {payment['wallet']}."
    final = "" if payment["finalized_at"] is None else f", final on {_moment(payment['finalized_at'])}"
    return f"Paid on Solana to wallet {payment['wallet']} by transaction {payment['signature']}{final}."


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return f"{day_text(at)}, {at:%H:%M:%S} UTC"


def _digits(nano_usd: int) -> str:
    return f"{Money(nano_usd).decimal():f}"
