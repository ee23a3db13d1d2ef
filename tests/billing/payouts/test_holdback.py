"""The holdback's rule, over all values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.payouts.holdback import (
    DEFAULT_BANDS,
    TRUST_NEUTRAL,
    Band,
    bands_as_json,
    bands_of_json,
    check_bands,
    holdback_of,
)
from raymart_core.errors import InvalidRequest
from raymart_core.money import Money

USD = 1_000_000_000


@st.composite
def any_bands(draw: st.DrawFn) -> tuple[Band, ...]:
    starts = sorted(draw(st.sets(st.integers(1, 100), max_size=6)))
    return tuple(
        Band(trust_min=start, basis_points=draw(st.integers(0, 10_000)), days=draw(st.integers(0, 365)))
        for start in (0, *starts)
    )


class TestHoldbackOf:
    def test_a_tenth_is_kept_for_a_week_of_who_is_neutral(self):
        found = holdback_of(
            Money(10 * USD), trust=TRUST_NEUTRAL, bands=DEFAULT_BANDS, covered=Money(10 * USD)
        )
        assert (found.amount, found.lasts.days) == (Money(USD), 7)

    @pytest.mark.parametrize(
        ("trust", "share"), [(0, 2_500), (39, 2_500), (40, 1_000), (79, 1_000), (80, 500), (100, 500)]
    )
    def test_a_score_belongs_to_the_band_that_it_has_reached(self, trust: int, share: int):
        found = holdback_of(Money(10_000), trust=trust, bands=DEFAULT_BANDS, covered=Money(10_000))
        assert found.amount == Money(share)

    @given(
        earned=st.integers(-(10**18), 10**18),
        covered=st.integers(-(10**18), 10**18),
        trust=st.integers(0, 100),
        bands=any_bands(),
    )
    def test_never_more_than_was_earned_or_is_there_and_never_negative(self, earned, covered, trust, bands):
        found = holdback_of(Money(earned), trust=trust, bands=bands, covered=Money(covered))
        assert 0 <= found.amount.amount <= max(0, min(earned, covered))
        assert bool(found.amount) == bool(found.lasts)

    @given(earned=st.integers(0, 10**15), trust=st.integers(0, 99))
    def test_more_trust_never_keeps_more(self, earned, trust):
        less, more = (
            holdback_of(Money(earned), trust=score, bands=DEFAULT_BANDS, covered=Money(earned))
            for score in (trust, trust + 1)
        )
        assert more.amount <= less.amount
        assert more.lasts <= less.lasts or not less.amount


class TestBands:
    @given(bands=any_bands())
    def test_come_back_from_a_policys_row(self, bands):
        check_bands(bands)
        assert bands_of_json(bands_as_json(bands)) == bands

    @pytest.mark.parametrize(
        "bands",
        [
            [],
            [Band(trust_min=1, basis_points=0, days=0)],
            [Band(trust_min=0, basis_points=0, days=0), Band(trust_min=0, basis_points=1, days=1)],
            [Band(trust_min=0, basis_points=0, days=0), Band(trust_min=101, basis_points=1, days=1)],
            [Band(trust_min=0, basis_points=10_001, days=1)],
            [Band(trust_min=0, basis_points=1, days=366)],
            [Band(trust_min=0, basis_points=-1, days=1)],
        ],
    )
    def test_that_leave_a_score_out_or_cannot_be_are_refused(self, bands):
        with pytest.raises(InvalidRequest):
            check_bands(bands)
