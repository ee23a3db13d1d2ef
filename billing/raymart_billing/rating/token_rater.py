"""Prices by the token. Both functions are exact: integers times integers, and one named rounding, of the fee."""

from raymart_core.money import BASIS_POINTS, Money
from raymart_core.ports import Charge, TokenPrices


class TokenRater:
    """Implements `core.ports.Rater` for prompt and completion tokens."""

    def __init__(self, *, fee_basis_points: int) -> None:
        """`fee_basis_points`: the platform's share of what the customer pays, 0 to 10,000 (all of it)."""
        assert 0 <= fee_basis_points <= BASIS_POINTS, f"fee of {fee_basis_points} basis points"
        self._fee_basis_points = fee_basis_points

    def quote(self, *, tokens_prompt_max: int, tokens_completion_max: int, prices: TokenPrices) -> Money:
        """The most that `rate` can charge for up to these counts: the same sum, which grows with each count."""
        return _price(tokens_prompt_max, tokens_completion_max, prices)

    def rate(self, *, tokens_prompt: int, tokens_completion: int, prices: TokenPrices) -> Charge:
        """Usage times price; the fee is rounded down to a whole nano-USD and the provider gets the rest."""
        customer = _price(tokens_prompt, tokens_completion, prices)
        fee = customer.portion_rounded_down(basis_points=self._fee_basis_points)
        return Charge(customer=customer, provider=customer - fee, fee=fee)


def _price(tokens_prompt: int, tokens_completion: int, prices: TokenPrices) -> Money:
    assert min(tokens_prompt, tokens_completion) >= 0, f"negative usage {tokens_prompt}, {tokens_completion}"
    assert min(prices.prompt_nano_usd, prices.completion_nano_usd) >= 0, f"negative price {prices}"
    return (
        Money(prices.prompt_nano_usd) * tokens_prompt + Money(prices.completion_nano_usd) * tokens_completion
    )
