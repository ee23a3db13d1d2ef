"""Prices by unit, as they are shown and as they come in."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import strawberry

from raymart_billing.rating import ChargeLine
from raymart_core.errors import InvalidRequest
from raymart_core.money import Money as Amount
from raymart_core.ports import Prices
from raymart_core.units import Unit as PricedUnit
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.pricing.enums import Unit
from raymart_marketplace.pricing.service import check_price

Price = TypeVar("Price")


@strawberry.type(description="The price of one unit.")
class UnitPrice:
    """Exact, in dollars with nine decimal places."""

    unit: Unit = strawberry.field(description="What is priced.")
    price: Money = strawberry.field(description="Of one of it.")


@strawberry.type(description="What one unit adds to an amount.")
class PriceLine:
    """Quantity times price, rounded down to a whole nano-dollar."""

    unit: Unit = strawberry.field(description="What was counted.")
    quantity: BigInt = strawberry.field(
        description="How much: tokens, requests, pixel-steps (a million make a unit) or milliseconds of GPU (a thousand)."
    )
    price: Money = strawberry.field(description="Of one unit.")
    amount: Money = strawberry.field(description="Quantity times price, rounded down.")

    @classmethod
    def of(cls, line: ChargeLine) -> "PriceLine":
        """`line` as the API shows it."""
        return cls(
            unit=line.unit,
            quantity=BigInt(line.quantity),
            price=Money.of_nano_usd(line.price_nano_usd),
            amount=Money.of(line.amount),
        )


@strawberry.input(description="A price of one unit.")
class UnitPriceInput:
    """In US dollars."""

    unit: Unit = strawberry.field(description="What is priced.")
    price: Decimal = strawberry.field(
        description="US dollars for one of it, such as '0.000000150'; at most 9 decimal places, at most 1."
    )


@strawberry.input(description="What an offer asks for one unit.")
class UnitAskInput:
    """In US dollars, or the rate card's price."""

    unit: Unit = strawberry.field(description="What is asked for.")
    price: Decimal | None = strawberry.field(
        default=None, description="US dollars for one of it; null to sell at the rate card's price."
    )


def unit_prices(prices: Mapping[PricedUnit, int]) -> list[UnitPrice]:
    """Nano-USD by unit as the API shows them, in the order of the units."""
    return [
        UnitPrice(unit=unit, price=Money.of_nano_usd(prices[unit])) for unit in PricedUnit if unit in prices
    ]


def priced_units(prices: Prices) -> list[UnitPrice]:
    """Those of `prices` that are not free."""
    return unit_prices({unit: price for unit, price in prices.items() if price})


def parse_prices(given: Iterable[UnitPriceInput], *, field: str) -> dict[PricedUnit, int]:
    """Nano-USD by unit. Raises: InvalidRequest for a unit named twice, or what is no price."""
    pairs = [(each.unit, nano_usd(each.price, field)) for each in given]
    return _once(pairs, field=field)


def parse_asks(given: Sequence[UnitAskInput], *, field: str) -> dict[PricedUnit, int | None]:
    """Nano-USD by unit, None for the rate card's. Raises: as `parse_prices`."""
    pairs = [(each.unit, None if each.price is None else nano_usd(each.price, field)) for each in given]
    return _once(pairs, field=field)


def offer_asks(
    given: Sequence[UnitAskInput], *, prompt: Decimal | None, completion: Decimal | None
) -> dict[PricedUnit, int | None]:
    """Nano-USD by unit, of the list and of the two short fields together.

    Raises: InvalidRequest for what is no price or a unit named twice.
    """
    asks = parse_asks(given, field="asks")
    short = {
        "prompt": (PricedUnit.TOKEN_PROMPT, prompt),
        "completion": (PricedUnit.TOKEN_COMPLETION, completion),
    }
    for field, (unit, price) in short.items():
        if price is None:
            continue
        if unit in asks:
            raise InvalidRequest(f"{unit.value} is named in `asks` too; give it one price", param=field)
        asks[unit] = nano_usd(price, field)
        check_price(unit, asks[unit], param=field)
    return asks


def nano_usd(value: Decimal, field: str) -> int:
    """US dollars as nano-USD. Raises: InvalidRequest for what is finer than 1e-9, below 0 or huge."""
    try:
        amount = Amount.parse(str(value)).amount
    except ValueError as error:
        raise InvalidRequest(str(error), param=field) from None
    if amount < 0:
        raise InvalidRequest(f"{value:f} is below 0", param=field)
    return amount


def _once(pairs: Sequence[tuple[PricedUnit, Price]], *, field: str) -> dict[PricedUnit, Price]:
    found: dict[PricedUnit, Price] = {}
    for unit, price in pairs:
        if unit in found:
            raise InvalidRequest(f"{unit.value} is named twice; give it one price", param=field)
        found[unit] = price
    return found
