"""A histogram tells percentiles within 10 %, forgets by half-lives, and bears any value and any pause."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_marketplace.supply.histogram import (
    BINS,
    GROWTH,
    HALF_LIFE_S,
    KNOWN_S,
    LEAST,
    MIDDLES,
    MOST,
    WINDOW_S,
    DecayedHistogram,
    Observation,
    bin_of,
)

ERROR = 0.10
"""What the module promises, relative."""
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def histogram(*values, now=0.0):
    made = DecayedHistogram()
    for value in values:
        made.add(Observation.of(value, now))
    return made


def exact(values, share):
    """The smallest of `values` that a share of them does not exceed."""
    return sorted(values)[math.ceil(Fraction(str(share)) * len(values)) - 1]


class TestAccuracy:
    @given(st.lists(st.floats(LEAST, MOST), min_size=1, max_size=300), st.sampled_from((0.0, 1e6)))
    def test_percentiles_are_within_the_error_of_the_exact_ones(self, values, now):
        told = histogram(*values, now=now).spread(now).percentiles(SHARES)
        assert told is not None
        for share, found in zip(SHARES, told, strict=True):
            assert found == pytest.approx(exact(values, share), rel=ERROR)

    @given(st.floats(LEAST, MOST, exclude_max=True))
    def test_a_value_is_counted_in_the_bin_that_holds_it(self, value):
        assert MIDDLES[bin_of(value)] == pytest.approx(value, rel=math.sqrt(GROWTH) - 1 + 1e-9)

    @pytest.mark.parametrize("value", [0.0, -1.0, 5e-324, LEAST])
    def test_what_is_too_small_is_told_as_the_smallest(self, value):
        assert histogram(value).spread(0.0).percentiles([0.5]) == (MIDDLES[0],)

    @pytest.mark.parametrize("value", [MOST, 1e300, math.inf])
    def test_what_is_too_large_is_told_as_the_largest(self, value):
        assert histogram(value).spread(0.0).percentiles([0.5]) == (MIDDLES[BINS - 1],)

    def test_the_range_is_what_it_says(self):
        assert LEAST == 0.1
        assert 1.2e6 < MOST < 1.4e6

    def test_nothing_has_no_percentiles(self):
        assert DecayedHistogram().spread(0.0).percentiles(SHARES) is None
        nothing = DecayedHistogram()
        assert nothing.near(DecayedHistogram(), 0.0, prior_weight=2.0).percentiles(SHARES) is None


class TestForgetting:
    def test_an_observation_counts_half_after_a_half_life(self):
        made = histogram(10.0)
        made.add(Observation.of(1_000.0, HALF_LIFE_S))
        assert made.spread(HALF_LIFE_S).weights[0] == pytest.approx(1 / 3)
        assert sum(made.spread(HALF_LIFE_S).weights) == pytest.approx(1.0)

    def test_it_is_worth_a_window_of_five_minutes(self):
        """Of a steady stream: as old on the mean, and as many observations' worth (Kish's effective sample size)."""
        ages = [second + 0.5 for second in range(5_000)]
        weights = [math.exp2(-age / HALF_LIFE_S) for age in ages]
        mean_age = sum(age * weight for age, weight in zip(ages, weights, strict=True)) / sum(weights)
        assert mean_age == pytest.approx(WINDOW_S / 2, rel=0.01)
        assert sum(weights) ** 2 / sum(weight**2 for weight in weights) == pytest.approx(WINDOW_S, rel=0.01)

    def test_what_was_slow_is_forgotten(self):
        made = histogram(*[5_000.0] * 100)
        for second in range(900):
            made.add(Observation.of(100.0, float(second)))
        [p90, p99] = made.spread(900.0).percentiles([0.9, 0.99])
        assert (p90, p99) == (MIDDLES[bin_of(100.0)],) * 2

    @given(st.lists(st.floats(0, 200 * HALF_LIFE_S), min_size=1, max_size=20))
    def test_pauses_of_any_length_change_nothing_but_the_weights(self, pauses):
        now, made, expected = 0.0, DecayedHistogram(), {}
        for number, pause in enumerate(pauses):
            now += pause
            made.add(Observation.of(2.0**number, now))
            expected[number] = now
        weights = {
            bin_of(2.0**number): math.exp2((at - now) / HALF_LIFE_S) for number, at in expected.items()
        }
        total = sum(weights.values())
        spread = made.spread(now)
        found = dict(enumerate(spread.weights, start=spread.first))
        for number, weight in weights.items():
            assert found.get(number, 0.0) == pytest.approx(weight / total, rel=1e-5, abs=1e-12)

    def test_years_without_an_observation_are_borne(self):
        made = histogram(10.0)
        assert made.near(histogram(20.0), 1e9, prior_weight=2.0).percentiles([0.5]) == (
            MIDDLES[bin_of(20.0)],
        )
        made.add(Observation.of(1_000.0, 1e9))
        assert made.spread(1e9).percentiles([0.01]) == (MIDDLES[bin_of(1_000.0)],)

    def test_a_spread_is_used_again_for_a_moment(self):
        made = histogram(10.0)
        before = made.spread(0.0)
        made.add(Observation.of(1_000.0, 0.0))
        assert made.spread(KNOWN_S - 0.01) is before
        assert len(made.spread(KNOWN_S).weights) > 1


class TestNear:
    def test_few_observations_are_drawn_to_the_prior(self):
        model, own = histogram(*[1_000.0] * 90, *[10.0] * 10), histogram(*[10.0] * 2)
        weights = own.near(model, 0.0, prior_weight=2.0)
        slow = sum(
            weight
            for number, weight in enumerate(weights.weights, weights.first)
            if number == bin_of(1_000.0)
        )
        # Two of its own beside two like the model's, of which nine in ten are slow.
        assert slow / sum(weights.weights) == pytest.approx(2 * 0.9 / 4)

    def test_the_older_its_own_are_the_more(self):
        model, own = histogram(*[1_000.0] * 99, 10.0), histogram(*[10.0] * 20)
        assert own.near(model, 0.0, prior_weight=2.0).percentiles([0.9]) == (MIDDLES[bin_of(10.0)],)
        late = 10 * HALF_LIFE_S
        assert own.near(model, late, prior_weight=2.0).percentiles([0.9]) == (MIDDLES[bin_of(1_000.0)],)
