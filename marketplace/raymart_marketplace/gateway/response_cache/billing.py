"""What an answer costs the second time: a share of each price, split as the first time.

Nobody generates anything, but the answer is still the provider's work: it earns its part of what is paid for it. What it
was paid the first time stays as it was.
"""

from msgspec.structs import replace

from raymart_core.money import BASIS_POINTS, Money
from raymart_core.ports import Prices, Rater, UsageEntry


def resold(part: UsageEntry, *, rater: Rater, price_basis_points: int) -> UsageEntry:
    """`part` at `price_basis_points` of its prices, each rounded up to a nano-USD and never above what it was.

    All of its prompt counts as cached.
    """
    prices = Prices(
        **{name: _discounted(price, price_basis_points) for name, price in _by_name(part.prices).items()}
    )
    prices = replace(prices, token_prompt=part.prices.token_prompt, token_cached=prices.token_prompt)
    used = part.quantities
    quantities = replace(used, token_prompt=0, token_cached=used.token_prompt + used.token_cached)
    charge = rater.rate(quantities, prices, fee_basis_points=0).customer
    first = part.customer_amount.amount
    fee = Money(charge.amount * part.fee_amount.amount // first if first else 0)
    return replace(
        part,
        quantities=quantities,
        prices=prices,
        customer_amount=charge,
        provider_amount=charge - fee,
        fee_amount=fee,
    )


def _by_name(prices: Prices) -> dict[str, int]:
    return {unit.name.lower(): price for unit, price in prices.items()}


def _discounted(price: int, basis_points: int) -> int:
    return -(-price * basis_points // BASIS_POINTS)
