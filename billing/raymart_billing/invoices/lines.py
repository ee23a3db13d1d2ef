"""From what was booked to the lines of an invoice, in words for the customer. Pure."""

from collections.abc import Iterator, Sequence
from datetime import date

from raymart_billing.invoices.booking import Booking, Movement, Usage
from raymart_billing.invoices.models import InvoiceLine, LineKind
from raymart_billing.ledger import TransferCode
from raymart_core.ids import new_id
from raymart_core.units import Unit

UNIT_WORDS = {
    Unit.TOKEN_PROMPT: "prompt tokens",
    Unit.TOKEN_CACHED: "cached prompt tokens",
    Unit.TOKEN_COMPLETION: "completion tokens",
    Unit.IMAGE_MEGAPIXEL_STEP: "megapixel-steps",
    Unit.GPU_SECOND: "GPU-seconds",
    Unit.REQUEST: "requests",
}
_MEANINGS = {
    TransferCode.CREDIT_GRANT: (LineKind.GRANT, "Promotional credit"),
    TransferCode.CREDIT_EXPIRED: (LineKind.GRANT, "Promotional credit expired"),
    TransferCode.REFUND: (LineKind.REFUND, "Refund"),
    TransferCode.ADJUSTMENT_CREDIT: (LineKind.ADJUSTMENT, "Correction in your favour"),
    TransferCode.ADJUSTMENT_DEBIT: (LineKind.ADJUSTMENT, "Correction"),
    TransferCode.DEPOSIT_CARD: (LineKind.DEPOSIT, "Deposit by card"),
    TransferCode.DEPOSIT_USDC: (LineKind.DEPOSIT, "Deposit in USDC"),
    TransferCode.DEPOSIT_ASSIGNED: (LineKind.DEPOSIT, "Deposit in USDC"),
    TransferCode.DEPOSIT_WITHDRAWN: (LineKind.DEPOSIT, "Deposit in USDC paid back"),
    TransferCode.DEPOSIT_REFUND: (LineKind.DEPOSIT, "Deposit paid back"),
    TransferCode.DISPUTE_OPENED: (LineKind.DISPUTE, "Disputed deposit set aside"),
    TransferCode.DISPUTE_WON: (LineKind.DISPUTE, "Disputed deposit returned"),
    TransferCode.RECEIVABLE_SETTLED: (LineKind.DISPUTE, "Outstanding amount settled"),
    TransferCode.REVERSAL: (LineKind.OTHER, "Reversal of an earlier booking"),
}
_ORDER = list(LineKind)


def make_lines(booking: Booking, *, period_start: date) -> list[InvoiceLine]:
    """The lines of an invoice over `booking`: usage first, then what else moved the balance, by kind and time.

    Their amounts sum to the change of the balance.
    """
    others = sorted((_movement_line(movement) for movement in booking.movements), key=_kind_first)
    lines = [*_usage_lines(booking.usage, period_start), *_waived_line(booking), *others]
    for position, line in enumerate(lines):
        line.id, line.position = new_id(), position
    total = sum(line.amount_nano_usd for line in lines)
    assert total == booking.closing - booking.opening, f"lines of {total} change {booking}"
    return lines


def _kind_first(line: InvoiceLine) -> int:
    return _ORDER.index(line.kind)


def _usage_lines(usage: Sequence[Usage], period_start: date) -> Iterator[InvoiceLine]:
    for used in usage:
        late = f" (used in {used.month:%B %Y})" if used.month < period_start else ""
        yield InvoiceLine(
            kind=LineKind.USAGE,
            code=TransferCode.USAGE_CHARGE.value,
            description=f"{used.model}: {UNIT_WORDS[Unit(used.unit)]}{late}",
            transfers=used.requests,
            usage_month=used.month,
            model_id=used.model_id,
            unit=used.unit,
            scale=used.scale,
            quantity=used.quantity,
            unit_price_nano_usd=used.price,
            amount_nano_usd=-used.amount,
        )


def _waived_line(booking: Booking) -> Iterator[InvoiceLine]:
    if booking.waived:
        yield InvoiceLine(
            kind=LineKind.USAGE_WAIVED,
            code=TransferCode.USAGE_SHORTFALL.value,
            description="Usage beyond the balance, not charged",
            transfers=booking.waived_transfers,
            amount_nano_usd=booking.waived,
        )


def _movement_line(movement: Movement) -> InvoiceLine:
    kind, words = _MEANINGS.get(
        TransferCode(movement.code), (LineKind.OTHER, movement.code.replace("_", " ").capitalize())
    )
    if movement.transfers > 1:
        words = f"{words} ({movement.transfers} bookings)"
    return InvoiceLine(
        kind=kind,
        code=movement.code,
        description=words,
        occurred_at=movement.booked_at,
        transfers=movement.transfers,
        amount_nano_usd=movement.change,
    )
