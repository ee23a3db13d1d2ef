"""What an answer costs the second time: a share of each price, split as the first time.

Nobody generates anything, but the answer is still the provider's work: it earns its part of what is paid for it. What it
was paid the first time stays as it was.
"""

from msgspec.structs import replace

from raymart_core.money import BASIS_POINTS, Money
from raymart_core.ports import Prices, Rater, UsageEntry


def resold(part: UsageEntry, *, rater: Rater, price_basis_points: int) -> UsageEntry:
    """`part` at `price_basis_points` (0 to 10,000) of its prices, each rounded up to a nano-USD and so never above what it was.

    Its quantities stay: what an engine had cached was cheaper the first time too, and at one price for the whole prompt
    an answer could cost more than it did then. The fee is the same share of the charge as it was, rounded up to a
    nano-USD: the first fee was rounded down, so that with both rounded down a small one would be lost whole. So it is
    within a nano-USD of what its rate would make of the charge.
    """
    prices = Prices(
        **{name: _discounted(price, price_basis_points) for name, price in _by_name(part.prices).items()}
    )
    charge = rater.rate(part.quantities, prices, fee_basis_points=0).customer
    first = part.customer_amount.amount
    fee = Money(_rounded_up(charge.amount * part.fee_amount.amount, first) if first else 0)
    assert charge <= part.customer_amount, f"{charge} for what was {part.customer_amount}"
    return replace(
        part,
        prices=prices,
        customer_amount=charge,
        provider_amount=charge - fee,
        fee_amount=fee,
    )


def _by_name(prices: Prices) -> dict[str, int]:
    return {unit.name.lower(): price for unit, price in prices.items()}


def _discounted(price: int, basis_points: int) -> int:
    return _rounded_up(price * basis_points, BASIS_POINTS)


def _rounded_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
