import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.solana import Funds, Shortage, limits_for, payout_cost_lamports
from raymart_billing.solana.fees import compute_unit_limit
from raymart_billing.solana.transactions import COMPUTE_UNITS_MAX


class TestComputeUnitLimit:
    @pytest.mark.parametrize(
        ("simulated", "limit"), [(0, 5_000), (10_000, 12_000), (10_001, 12_002), (1_399_999, 1_400_000)]
    )
    def test_a_fifth_more_than_simulated(self, simulated: int, limit: int) -> None:
        assert compute_unit_limit(simulated) == limit


class TestLimitsFor:
    def test_the_first_attempt_offers_what_others_paid(self) -> None:
        limits = limits_for(
            simulated_units=10_000, price_micro_lamports=1_000, bumps=0, priority_fee_lamports_max=10**6
        )
        assert (limits.compute_units, limits.priority_fee_lamports) == (12_000, 12)

    def test_each_further_one_offers_twice_as_much_up_to_the_cap(self) -> None:
        offered = [
            limits_for(
                simulated_units=10_000, price_micro_lamports=1_000, bumps=bumps, priority_fee_lamports_max=100
            ).priority_fee_lamports
            for bumps in range(6)
        ]
        assert offered == [12, 24, 48, 96, 100, 100]

    def test_without_a_price_the_first_attempt_offers_nothing_and_the_next_something(self) -> None:
        offered = [
            limits_for(
                simulated_units=10_000, price_micro_lamports=0, bumps=bumps, priority_fee_lamports_max=10**6
            ).priority_fee_lamports
            for bumps in range(3)
        ]
        assert offered == [0, 24, 48]

    @given(
        units=st.integers(0, 2**63),
        price=st.integers(0, 2**63),
        bumps=st.integers(0, 10**6),
        cap=st.integers(0, 10**8),
    )
    def test_whatever_an_endpoint_says_the_caps_hold(
        self, units: int, price: int, bumps: int, cap: int
    ) -> None:
        limits = limits_for(
            simulated_units=units, price_micro_lamports=price, bumps=bumps, priority_fee_lamports_max=cap
        )
        assert 0 < limits.compute_units <= COMPUTE_UNITS_MAX
        assert 0 <= limits.priority_fee_lamports <= cap


class TestFunds:
    RICH = Funds(lamports=1_000, micro_usdc=50, has_token_account=True, is_frozen=False, rent_lamports=100)

    def test_what_suffices_exactly_is_enough(self) -> None:
        assert self.RICH.shortages(lamports=900, micro_usdc=50) == ()

    def test_the_treasurys_own_rent_stays(self) -> None:
        assert self.RICH.shortages(lamports=901, micro_usdc=50) == (Shortage.SOL,)

    def test_every_shortage_is_named(self) -> None:
        assert self.RICH.shortages(lamports=10**6, micro_usdc=51) == (Shortage.USDC, Shortage.SOL)
        frozen = Funds(lamports=0, micro_usdc=50, has_token_account=True, is_frozen=True, rent_lamports=0)
        assert frozen.shortages(lamports=0, micro_usdc=1) == (Shortage.FROZEN,)
        bare = Funds(lamports=0, micro_usdc=0, has_token_account=False, is_frozen=False, rent_lamports=0)
        assert bare.shortages(lamports=0, micro_usdc=1) == (Shortage.NO_TOKEN_ACCOUNT,)


def test_a_payout_costs_fee_priority_and_rent() -> None:
    assert payout_cost_lamports(marker_rent_lamports=890_880, priority_fee_lamports=120) == 896_000
