"""Scalars of the schema: exact numbers travel as strings, times in UTC with a Z."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NewType

import strawberry
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.types.scalar import ScalarDefinition

from raymart_core.money import Money as Amount
from raymart_graphql.enums import Asset

BigInt = NewType("BigInt", int)
"""A whole number of any size, a string on the wire: JavaScript loses digits above 2**53."""

FloatVector = NewType("FloatVector", list[float])
"""Many numbers as one leaf: as a list of its own each would cost the executor as much as a field."""

DIGITS_MAX = 40
"""Longest number accepted, in characters; beyond any amount a ledger holds, and cheap to parse."""


def _parse_decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise StrawberryInputCoercionError(
            "send a Decimal as a string such as '12.50': a JSON float is not exact"
        )
    text = str(value)
    if len(text) > DIGITS_MAX:
        raise StrawberryInputCoercionError(f"a Decimal has at most {DIGITS_MAX} characters, not {len(text)}")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise StrawberryInputCoercionError(f"{text!r} is not a decimal number such as '12.50'") from None
    if not number.is_finite():
        raise StrawberryInputCoercionError(f"{text!r} is not a finite number")
    return number


def _show_decimal(value: Decimal) -> str:
    return f"{value:f}"


def _parse_big_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise StrawberryInputCoercionError("send a BigInt as a string of digits such as '12000000000'")
    text = str(value)
    digits = text.removeprefix("-")
    if len(text) > DIGITS_MAX or not digits.isascii() or not digits.isdigit():
        raise StrawberryInputCoercionError(
            f"a BigInt is at most {DIGITS_MAX} digits, not {text[:DIGITS_MAX]!r}"
        )
    return int(text)


def _parse_vector(value: object) -> list[float]:
    raise StrawberryInputCoercionError(f"a FloatVector is read only, not taken; {type(value).__name__} given")


def _parse_time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise StrawberryInputCoercionError(
            f"{str(value)[:DIGITS_MAX]!r} is not an ISO 8601 time with its zone, such as '2026-11-20T10:00:00Z'"
        )
    return time.astimezone(UTC)


def _show_time(value: datetime) -> str:
    assert value.tzinfo is not None, "a time without a zone reached the API"
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of any size, as a string of digits.",
        serialize=str,
        parse_value=_parse_big_int,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description="An exact decimal number, as a string such as '12.50', never in scientific notation.",
        serialize=_show_decimal,
        parse_value=_parse_decimal,
    ),
    FloatVector: strawberry.scalar(
        name="FloatVector",
        description="A JSON array of numbers; never an input.",
        serialize=list,
        parse_value=_parse_vector,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC, ISO 8601 with a Z, such as '2026-11-20T10:00:00Z'.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=_show_time,
        parse_value=_parse_time,
    ),
}
"""Python type to scalar, for `StrawberryConfig.scalar_map`."""


@strawberry.type(description="An exact amount of money.")
class Money:
    """`amount` in whole units of `currency`, with as many decimal places as the asset has."""

    amount: Decimal = strawberry.field(
        description="Whole units of the currency, exact; '0.000000150' is 150 nano-dollars."
    )
    currency: Asset = strawberry.field(description="What the amount counts.")

    @classmethod
    def of(cls, amount: Amount) -> "Money":
        """`amount` as the API shows it."""
        return cls(amount=amount.decimal(), currency=amount.asset)

    @classmethod
    def of_nano_usd(cls, nano_usd: int) -> "Money":
        """A column of nano-USD as the API shows it."""
        return cls.of(Amount(nano_usd))
