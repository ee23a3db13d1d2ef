"""Amounts, quantities and prices as people read them. Exact integers in, text out; each rounding is named."""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from raymart_core.money import Money
from raymart_core.units import Unit

CENT = Decimal("0.01")
MINUS = "\N{MINUS SIGN}"
_TOKENS = frozenset({Unit.TOKEN_PROMPT, Unit.TOKEN_CACHED, Unit.TOKEN_COMPLETION})
_PER = {
    Unit.IMAGE_MEGAPIXEL_STEP: "per megapixel-step",
    Unit.GPU_SECOND: "per GPU-second",
    Unit.REQUEST: "per request",
}


def rounded_half_even(nano_usd: int) -> str:
    """Whole cents: "1,234.50". A half cent goes to the even one."""
    return _signed(Money(nano_usd).decimal().quantize(CENT, rounding=ROUND_HALF_EVEN))


def exact(nano_usd: int) -> str | None:
    """All nine decimal places; None where whole cents say it all."""
    amount = Money(nano_usd).decimal()
    return None if amount == amount.quantize(CENT, rounding=ROUND_HALF_EVEN) else _signed(amount)


def quantity_text(quantity: int, scale: int) -> str:
    """Measured quantity in units, all digits: "12,345" tokens, "0.262144" megapixel-steps."""
    whole, rest = divmod(quantity, scale)
    if not rest:
        return f"{whole:,}"
    places = len(str(scale)) - 1
    return f"{whole:,}.{rest:0{places}}".rstrip("0")


def price_text(nano_usd: int, unit: Unit) -> tuple[str, str]:
    """A unit price and what it is for, exact: tokens by the million, as they are advertised."""
    if unit in _TOKENS:
        return _signed((Money(nano_usd).decimal() * 1_000_000).normalize()), "per million"
    return _signed(Money(nano_usd).decimal().normalize()), _PER[unit]


def day_text(day: date | datetime) -> str:
    """The day in UTC, such as "20 November 2026"."""
    if isinstance(day, datetime):
        day = day.astimezone(UTC).date()
    return f"{day.day} {day:%B %Y}"


def _signed(amount: Decimal) -> str:
    """With thousands separators, two decimal places or more, and a real minus sign."""
    places = max(2, -int(amount.as_tuple().exponent))
    text = f"{abs(amount):,.{places}f}"
    return f"{MINUS}{text}" if amount < 0 else text
