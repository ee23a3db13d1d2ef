"""Money is exact: no sequence of counts and prices makes a charge that does not add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.rating import TokenRater
from raymart_core.money import Money
from raymart_core.ports import TokenPrices

counts = st.integers(0, 2_000_000)
nano_usd = st.integers(0, 10**9)
prices = st.builds(TokenPrices, prompt_nano_usd=nano_usd, completion_nano_usd=nano_usd)
raters = st.builds(TokenRater, fee_basis_points=st.integers(0, 10_000))


class TestTokenRater:
    @given(rater=raters, prices=prices, most=st.tuples(counts, counts), less=st.tuples(counts, counts))
    def test_a_charge_never_exceeds_the_quote_of_at_least_its_counts(self, rater, prices, most, less):
        quote = rater.quote(tokens_prompt_max=most[0], tokens_completion_max=most[1], prices=prices)
        charge = rater.rate(
            tokens_prompt=max(0, most[0] - less[0]),
            tokens_completion=max(0, most[1] - less[1]),
            prices=prices,
        )
        assert charge.customer <= quote

    @given(rater=raters, prices=prices, prompt=counts, completion=counts)
    def test_the_split_adds_up_and_no_part_is_negative(self, rater, prices, prompt, completion):
        charge = rater.rate(tokens_prompt=prompt, tokens_completion=completion, prices=prices)
        assert charge.provider + charge.fee == charge.customer
        assert charge.provider >= Money(0)
        assert charge.fee >= Money(0)

    @given(rater=raters, prices=prices, prompt=counts, completion=counts)
    def test_the_same_usage_costs_the_same_money(self, rater, prices, prompt, completion):
        usage = {"tokens_prompt": prompt, "tokens_completion": completion, "prices": prices}
        assert rater.rate(**usage) == rater.rate(**usage)

    @given(basis_points=st.integers(0, 10_000), prices=prices, prompt=counts, completion=counts)
    def test_the_fee_is_rounded_down_and_by_less_than_one_nano_usd(
        self, basis_points, prices, prompt, completion
    ):
        charge = TokenRater(fee_basis_points=basis_points).rate(
            tokens_prompt=prompt, tokens_completion=completion, prices=prices
        )
        exact = charge.customer.amount * basis_points
        assert 0 <= exact - charge.fee.amount * 10_000 < 10_000

    def test_a_charge_is_usage_times_price(self):
        charge = TokenRater(fee_basis_points=1_000).rate(
            tokens_prompt=11,
            tokens_completion=7,
            prices=TokenPrices(prompt_nano_usd=100, completion_nano_usd=301),
        )
        assert charge.customer == Money(11 * 100 + 7 * 301)
        assert charge.fee == Money(320)
        assert charge.provider == Money(3_207 - 320)

    @pytest.mark.parametrize("basis_points", [-1, 10_001])
    def test_a_fee_outside_the_whole_is_a_programmer_error(self, basis_points):
        with pytest.raises(AssertionError):
            TokenRater(fee_basis_points=basis_points)

    def test_negative_usage_is_a_programmer_error(self):
        rater = TokenRater(fee_basis_points=0)
        with pytest.raises(AssertionError):
            rater.rate(
                tokens_prompt=-1,
                tokens_completion=5,
                prices=TokenPrices(prompt_nano_usd=1, completion_nano_usd=1),
            )
