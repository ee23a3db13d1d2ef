"""The lines of an invoice as CSV, every amount with all its digits. Pure.

RFC 4180 with CRLF, UTF-8. A cell that a spreadsheet would take for a formula is written with a leading apostrophe.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC

from raymart_billing.invoices.models import Invoice, InvoiceLine
from raymart_core.money import Money

COLUMNS = (
    "invoice", "state", "period_start", "period_end", "position", "kind", "code", "description", "booked_at",
    "usage_month", "count", "unit", "quantity", "scale", "unit_price_usd", "amount_usd", "currency",
)  # fmt: skip
"""`quantity` / `scale` units were used at `unit_price_usd` each; `amount_usd` is the change of the balance."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def invoice_csv(invoice: Invoice, lines: Sequence[InvoiceLine]) -> bytes:
    """A header, the opening balance, each line, the closing balance."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerow(_row(invoice, kind="opening_balance", amount=invoice.opening_nano_usd))
    writer.writerows(_line_row(invoice, line) for line in lines)
    writer.writerow(_row(invoice, kind="closing_balance", amount=invoice.closing_nano_usd))
    return text.getvalue().encode()


def _line_row(invoice: Invoice, line: InvoiceLine) -> list[str]:
    return _row(
        invoice,
        kind=line.kind.value,
        amount=line.amount_nano_usd,
        position=str(line.position),
        code=line.code,
        description=_plain(line.description),
        booked_at=line.occurred_at.astimezone(UTC).isoformat() if line.occurred_at else "",
        usage_month=f"{line.usage_month:%Y-%m}" if line.usage_month else "",
        count=str(line.transfers),
        unit=line.unit or "",
        quantity=_whole(line.quantity),
        scale=_whole(line.scale),
        unit_price_usd="" if line.unit_price_nano_usd is None else _digits(line.unit_price_nano_usd),
    )


def _row(invoice: Invoice, *, kind: str, amount: int, **cells: str) -> list[str]:
    known = {
        "invoice": invoice.number or "",
        "state": invoice.state.value,
        "period_start": invoice.period_start.isoformat(),
        "period_end": invoice.period_end.isoformat(),
        "kind": kind,
        "amount_usd": _digits(amount),
        "currency": "USD",
    }
    return [(known | cells).get(column, "") for column in COLUMNS]


def _digits(nano_usd: int) -> str:
    return f"{Money(nano_usd).decimal():f}"


def _whole(number: int | None) -> str:
    return "" if number is None else str(number)


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
