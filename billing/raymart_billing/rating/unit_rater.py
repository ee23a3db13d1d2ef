"""Prices by the unit. Whole numbers only; what is rounded, and in whose favour, is named where it happens."""

from typing import NamedTuple

from raymart_core.errors import InvalidRequest
from raymart_core.money import AMOUNT_MAX, BASIS_POINTS, Money
from raymart_core.ports import Charge, Prices, Quantities
from raymart_core.units import Unit

_PIXEL_STEPS = Unit.IMAGE_MEGAPIXEL_STEP.scale
_GPU_MILLISECONDS = Unit.GPU_SECOND.scale


class ChargeLine(NamedTuple):
    """What one unit adds to a charge: `quantity` x `price_nano_usd` / `unit.scale`, rounded down."""

    unit: Unit
    quantity: int
    price_nano_usd: int
    amount: Money


class UnitRater:
    """Implements `core.ports.Rater`. It has no state: quantities, prices and the fee come with each request."""

    def quote(self, quantities_max: Quantities, prices: Prices) -> Money:
        """The most that `rate` can charge for up to these quantities, whichever prompt tokens were cached.

        A line never shrinks while its quantity grows, rounded down or not, so the sum at the bounds is a bound. Which
        tokens of the prompt are cached is known only later: each counts at the dearer of the two prices.
        Raises: InvalidRequest when it is more than any account can hold.
        """
        tokens_prompt = quantities_max.token_prompt + quantities_max.token_cached
        dearer = prices.token_prompt
        dearer = max(dearer, prices.token_cached)
        return _sum(tokens_prompt * dearer, quantities_max, prices)

    def rate(self, quantities: Quantities, prices: Prices, *, fee_basis_points: int) -> Charge:
        """Quantities times prices: the sum of `lines_of`, which rounds in the customer's favour.

        The fee is `fee_basis_points` / 10,000 of it, rounded down to a whole nano-USD; the provider gets the rest.
        Raises: InvalidRequest when it is more than any account can hold.
        """
        prompt = quantities.token_prompt * prices.token_prompt + quantities.token_cached * prices.token_cached
        customer = _sum(prompt, quantities, prices)
        assert 0 <= fee_basis_points <= BASIS_POINTS, f"{fee_basis_points} basis points"
        assert customer.amount >= 0, f"a fee of {customer}"
        fee = customer.amount * fee_basis_points // BASIS_POINTS
        return Charge(customer=customer, provider=Money(customer.amount - fee), fee=Money(fee))


def lines_of(quantities: Quantities, prices: Prices) -> tuple[ChargeLine, ...]:
    """The charge by unit, of every unit that was both used and priced; the amounts add up to what `rate` charges.

    Raises: InvalidRequest when a line is more than any account can hold.
    """
    return tuple(
        ChargeLine(unit, quantity, price, _money(line_rounded_down(unit, quantity, price)))
        for (unit, quantity), (_, price) in zip(quantities.items(), prices.items(), strict=True)
        if quantity and price
    )


def line_rounded_down(unit: Unit, quantity: int, price_nano_usd: int) -> int:
    """Nano-USD for `quantity`, rounded down: what is less than one nano-USD is the customer's."""
    return quantity * price_nano_usd // unit.scale


def _sum(prompt_nano_usd: int, quantities: Quantities, prices: Prices) -> Money:
    """The charge, given that of the prompt. Written out, because every request passes here several times."""
    amount = (
        prompt_nano_usd
        + quantities.token_completion * prices.token_completion
        + quantities.request * prices.request
        + quantities.image_megapixel_step * prices.image_megapixel_step // _PIXEL_STEPS
        + quantities.gpu_second * prices.gpu_second // _GPU_MILLISECONDS
    )
    return Money(amount) if amount <= AMOUNT_MAX else _money(amount)


def _money(amount_nano_usd: int) -> Money:
    if amount_nano_usd > AMOUNT_MAX:
        raise InvalidRequest(
            f"this could cost {amount_nano_usd} nano-USD, over the most that can be charged, {AMOUNT_MAX}; ask for less"
        )
    return Money(amount_nano_usd)
