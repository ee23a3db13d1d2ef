"""What a hit costs, whatever the first answer did: by arithmetic alone."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.rating import UnitRater
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import Prices, Quantities, UsageEntry
from raymart_marketplace.gateway.response_cache.billing import resold

RATER = UnitRater()
PRICE = st.integers(0, 10_000)
COUNT = st.integers(0, 100_000)


@st.composite
def parts(draw) -> UsageEntry:
    """What was billed the first time, at any prices and any fee."""
    prices = Prices(
        token_prompt=draw(PRICE),
        token_cached=draw(PRICE),
        token_completion=draw(PRICE),
        request=draw(PRICE),
    )
    quantities = Quantities(
        token_prompt=draw(COUNT), token_cached=draw(COUNT), token_completion=draw(COUNT), request=1
    )
    return billed(quantities, prices, fee_basis_points=draw(st.integers(0, 10_000)))


def billed(quantities: Quantities, prices: Prices, *, fee_basis_points: int) -> UsageEntry:
    charge = RATER.rate(quantities, prices, fee_basis_points=fee_basis_points)
    return UsageEntry(
        provider_id=new_id(), endpoint_id=new_id(), offer_id=new_id(), revision_id=new_id(),
        quantities=quantities, prices=prices, exact=True,
        customer_amount=charge.customer, provider_amount=charge.provider, fee_amount=charge.fee,
    )  # fmt: skip


class TestResold:
    @given(parts(), st.integers(0, 10_000))
    def test_it_adds_up_and_is_never_dearer(self, part, basis_points):
        hit = resold(part, rater=RATER, price_basis_points=basis_points)
        assert hit.customer_amount == RATER.rate(hit.quantities, hit.prices, fee_basis_points=0).customer
        assert hit.customer_amount == hit.provider_amount + hit.fee_amount
        assert Money(0) <= hit.provider_amount <= part.provider_amount
        assert Money(0) <= hit.customer_amount <= part.customer_amount
        assert hit.quantities == part.quantities

    @given(parts(), st.integers(0, 10_000), st.integers(0, 10_000))
    def test_the_fee_is_within_a_nano_usd_of_its_rate_and_none_only_where_there_was_none(
        self, part, basis_points, fee_basis_points
    ):
        part = billed(part.quantities, part.prices, fee_basis_points=fee_basis_points)
        hit = resold(part, rater=RATER, price_basis_points=basis_points)
        exact = Fraction(hit.customer_amount.amount * fee_basis_points, 10_000)
        assert abs(hit.fee_amount.amount - exact) < 1
        if hit.customer_amount and part.fee_amount:
            assert hit.fee_amount > Money(0)
        if not part.fee_amount:
            assert hit.fee_amount == Money(0)

    @pytest.mark.parametrize(("tokens", "fee"), [(1, 0), (2, 1), (3, 1), (40, 6), (50, 8)])
    def test_a_small_fee_is_rounded_up(self, tokens, fee):
        """Of 10 nano-USD a token 5 % were rounded down; a hit costs 3 a token. One token's fee was 0, and stays 0."""
        part = billed(Quantities(token_completion=tokens), Prices(token_completion=10), fee_basis_points=500)
        hit = resold(part, rater=RATER, price_basis_points=2_500)
        assert (hit.customer_amount, hit.fee_amount) == (Money(tokens * 3), Money(fee))

    def test_a_prompt_that_an_engine_had_cached_is_no_dearer_the_second_time(self):
        """At a quarter of the full price for all of it, 1,000 tokens that cost 1 each would cost 25 each."""
        part = billed(
            Quantities(token_prompt=3, token_cached=1_000, token_completion=4),
            Prices(token_prompt=100, token_cached=1, token_completion=100),
            fee_basis_points=500,
        )
        hit = resold(part, rater=RATER, price_basis_points=2_500)
        assert hit.customer_amount == Money(3 * 25 + 1_000 * 1 + 4 * 25)
        assert hit.customer_amount < part.customer_amount

    def test_nothing_stays_nothing(self):
        part = billed(Quantities(token_completion=4), Prices(), fee_basis_points=500)
        assert resold(part, rater=RATER, price_basis_points=2_500).customer_amount == Money(0)
