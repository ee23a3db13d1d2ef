"""Money is exact: no sequence of quantities and prices makes a charge that does not add up."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.rating import ChargeLine, UnitRater, lines_of
from raymart_core.errors import InvalidRequest
from raymart_core.money import AMOUNT_MAX, Money
from raymart_core.ports import Prices, Quantities
from raymart_core.units import Unit

FIELDS = [unit.name.lower() for unit in Unit]
RATER = UnitRater()

numbers = st.integers(0, 10**9)
prices_of_all = st.builds(Prices, **dict.fromkeys(FIELDS, numbers))
quantities_of_all = st.builds(Quantities, **dict.fromkeys(FIELDS, st.integers(0, 10**8)))
shares = st.integers(0, 10_000)


def rate(quantities: Quantities, prices: Prices, *, fee_basis_points: int = 1_000):
    return RATER.rate(quantities, prices, fee_basis_points=fee_basis_points)


@st.composite
def used_within_bounds(draw) -> tuple[Quantities, Quantities]:
    """(bounds, used): of each unit at most the bound, and of the prompt at most the whole prompt's."""
    most = draw(quantities_of_all)
    used = {
        unit.name.lower(): draw(st.integers(0, bound))
        for unit, bound in most.items()
        if unit not in (Unit.TOKEN_PROMPT, Unit.TOKEN_CACHED)
    }
    prompt = draw(st.integers(0, most.token_prompt + most.token_cached))
    cached = draw(st.integers(0, prompt))
    return most, Quantities(**used, token_prompt=prompt - cached, token_cached=cached)


class TestQuote:
    @given(bounds=used_within_bounds(), prices=prices_of_all, fee=shares)
    def test_a_charge_never_exceeds_the_quote_of_its_bounds(self, bounds, prices, fee):
        """Whatever was used of each unit, and however much of the prompt was cached."""
        most, used = bounds
        assert rate(used, prices, fee_basis_points=fee).customer <= RATER.quote(most, prices)

    @given(quantities=quantities_of_all, prices=prices_of_all)
    def test_a_quote_is_no_more_than_the_dearest_charge_within_its_bounds(self, quantities, prices):
        """Otherwise customers would be held to more than they can be asked for."""
        whole = quantities.token_prompt + quantities.token_cached
        cached = whole if prices.token_cached > prices.token_prompt else 0
        dearest = msgspec.structs.replace(quantities, token_prompt=whole - cached, token_cached=cached)
        assert RATER.quote(quantities, prices) == rate(dearest, prices).customer

    def test_what_no_account_could_hold_is_refused_with_value_and_limit(self):
        huge = Quantities(token_prompt=AMOUNT_MAX)
        with pytest.raises(InvalidRequest, match=rf"{AMOUNT_MAX * 2}.*{AMOUNT_MAX}; ask for less"):
            RATER.quote(huge, Prices(token_prompt=2))
        assert RATER.quote(huge, Prices(token_prompt=1)) == Money(AMOUNT_MAX)


class TestRate:
    @given(quantities=quantities_of_all, prices=prices_of_all, fee=shares)
    def test_the_split_adds_up_and_no_part_is_negative(self, quantities, prices, fee):
        charge = rate(quantities, prices, fee_basis_points=fee)
        assert charge.provider + charge.fee == charge.customer
        assert charge.provider >= Money(0)
        assert charge.fee >= Money(0)

    @given(quantities=quantities_of_all, prices=prices_of_all)
    def test_the_lines_add_up_to_the_charge(self, quantities, prices):
        lines = lines_of(quantities, prices)
        assert sum((line.amount for line in lines), Money(0)) == rate(quantities, prices).customer

    @given(quantities=quantities_of_all, prices=prices_of_all, fee=shares)
    def test_the_same_usage_costs_the_same_money(self, quantities, prices, fee):
        again = (msgspec.structs.replace(quantities), msgspec.structs.replace(prices))
        assert rate(quantities, prices, fee_basis_points=fee) == rate(*again, fee_basis_points=fee)

    @given(quantities=quantities_of_all, prices=prices_of_all, field=st.sampled_from(FIELDS), more=numbers)
    def test_more_of_any_unit_never_costs_less(self, quantities, prices, field, more):
        grown = msgspec.structs.replace(quantities, **{field: getattr(quantities, field) + more})
        dearer = msgspec.structs.replace(prices, **{field: getattr(prices, field) + more})
        charge = rate(quantities, prices)
        assert charge.customer <= rate(grown, prices).customer
        assert charge.customer <= rate(quantities, dearer).customer

    @given(quantities=quantities_of_all, prices=prices_of_all)
    def test_each_line_is_rounded_down_and_by_less_than_one_nano_usd(self, quantities, prices):
        for line in lines_of(quantities, prices):
            exact = line.quantity * line.price_nano_usd
            assert 0 <= exact - line.amount.amount * line.unit.scale < line.unit.scale

    @given(quantities=quantities_of_all, prices=prices_of_all, fee=shares)
    def test_the_fee_is_rounded_down_and_by_less_than_one_nano_usd(self, quantities, prices, fee):
        charge = rate(quantities, prices, fee_basis_points=fee)
        assert 0 <= charge.customer.amount * fee - charge.fee.amount * 10_000 < 10_000

    def test_every_unit_is_charged_at_its_own_price_and_scale(self):
        quantities = Quantities(
            token_prompt=11, token_completion=7, token_cached=5, image_megapixel_step=2_500_000, gpu_second=1_500,
            request=1,
        )  # fmt: skip
        prices = Prices(
            token_prompt=100, token_completion=301, token_cached=10, image_megapixel_step=3, gpu_second=7, request=13
        )  # fmt: skip
        assert lines_of(quantities, prices) == (
            ChargeLine(Unit.TOKEN_PROMPT, 11, 100, Money(1_100)),
            ChargeLine(Unit.TOKEN_COMPLETION, 7, 301, Money(2_107)),
            ChargeLine(Unit.TOKEN_CACHED, 5, 10, Money(50)),
            ChargeLine(Unit.IMAGE_MEGAPIXEL_STEP, 2_500_000, 3, Money(7)),  # 7.5
            ChargeLine(Unit.GPU_SECOND, 1_500, 7, Money(10)),  # 10.5
            ChargeLine(Unit.REQUEST, 1, 13, Money(13)),
        )
        charge = rate(quantities, prices)
        assert charge.customer == Money(3_287)
        assert (charge.fee, charge.provider) == (Money(328), Money(2_959))

    def test_what_is_free_or_unused_has_no_line(self):
        assert lines_of(Quantities(token_prompt=5, request=1), Prices(token_completion=5, request=0)) == ()

    @pytest.mark.parametrize("fee", [-1, 10_001])
    def test_a_fee_outside_the_whole_is_a_programmer_error(self, fee):
        with pytest.raises(AssertionError):
            rate(Quantities(request=1), Prices(request=1), fee_basis_points=fee)

    def test_a_charge_that_no_account_could_hold_is_refused(self):
        with pytest.raises(InvalidRequest, match="over the most that can be charged"):
            rate(Quantities(gpu_second=AMOUNT_MAX), Prices(gpu_second=1_001))
        with pytest.raises(InvalidRequest, match="over the most that can be charged"):
            lines_of(Quantities(token_completion=AMOUNT_MAX), Prices(token_completion=AMOUNT_MAX))


class TestByUnit:
    """What prices and quantities can be at all."""

    @pytest.mark.parametrize("wrong", [-1, 1.0, float("nan"), True, "1", None, AMOUNT_MAX + 1])
    @pytest.mark.parametrize("kind", [Prices, Quantities])
    @pytest.mark.parametrize("field", FIELDS)
    def test_only_whole_numbers_from_0_to_a_bigint_are_taken(self, kind, field, wrong):
        with pytest.raises(ValueError, match="is no whole number from 0 to 9223372036854775807"):
            kind(**{field: wrong})

    def test_each_unit_has_a_field_of_its_name_in_its_order(self):
        assert list(Prices.__struct_fields__) == FIELDS
        assert dict(Quantities(gpu_second=3).items()) == {
            unit: 3 * (unit is Unit.GPU_SECOND) for unit in Unit
        }

    def test_prices_are_values(self):
        assert Prices(request=1) == Prices(request=1)
        assert hash(Prices(request=1)) == hash(Prices(request=1))
        assert Prices(request=1) != Quantities(request=1)
        with pytest.raises(AttributeError):
            Prices(request=1).request = 2

    def test_scales_are_what_the_meters_measure_in(self):
        assert {unit.value: unit.scale for unit in Unit} == {
            "token.prompt": 1,
            "token.completion": 1,
            "token.cached": 1,
            "image.megapixel_step": 1_000_000,
            "gpu.second": 1_000,
            "request": 1,
        }


class TestMoney:
    @pytest.mark.parametrize("amount", [AMOUNT_MAX + 1, -AMOUNT_MAX - 1, 10**30])
    def test_an_amount_over_a_bigint_is_refused_and_does_not_wrap(self, amount):
        with pytest.raises(ValueError, match="over the largest amount"):
            Money(amount)
        with pytest.raises(ValueError, match="over the largest amount"):
            Money(amount // 10) * 10 + Money(9)

    def test_a_charge_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            rate(Quantities(), Prices()).customer = Money(1)
