from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.money import AMOUNT_MAX, BASIS_POINTS, Asset, Money

amounts = st.integers(min_value=-AMOUNT_MAX, max_value=AMOUNT_MAX)


class TestMoney:
    @given(amounts)
    def test_decimal_and_parse_are_inverse(self, amount):
        money = Money(amount)
        assert Money.parse(f"{money.decimal():f}") == money

    @given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), st.sampled_from(Asset))
    def test_its_text_is_the_decimal_with_every_place(self, amount, asset):
        money = Money(amount, asset)
        assert money.decimal_text() == f"{money.decimal():f}"

    @given(st.integers(min_value=0, max_value=AMOUNT_MAX), st.integers(min_value=0, max_value=BASIS_POINTS))
    def test_a_portion_and_its_rest_make_the_whole(self, amount, basis_points):
        whole = Money(amount)
        part = whole.portion_rounded_down(basis_points=basis_points)
        assert Money(0) <= part <= whole
        assert part + (whole - part) == whole

    @given(st.integers(min_value=0, max_value=10**12), st.integers(min_value=0, max_value=10**6))
    def test_price_times_count_is_exact(self, price, count):
        assert (Money(price) * count).amount == price * count

    @pytest.mark.parametrize("text", ["", "x", "1e-10", "0.0000000001", "NaN", "Infinity", "1,5"])
    def test_text_that_is_no_exact_amount_is_refused(self, text):
        with pytest.raises(ValueError, match=r"decimal|finer"):
            Money.parse(text)

    def test_a_float_is_refused(self):
        with pytest.raises(AssertionError):
            Money(1.0)  # type: ignore[arg-type]

    def test_assets_do_not_mix(self):
        with pytest.raises(AssertionError):
            Money(1, Asset.USD) + Money(1, Asset.USDC)

    def test_it_reads_as_dollars(self):
        assert str(Money(1_250_000_000)) == "1.250000000 USD"
        assert Money.parse("12.5", Asset.USDC) == Money(12_500_000, Asset.USDC)
        assert Money(5).decimal() == Decimal("0.000000005")
