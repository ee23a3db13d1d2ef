"""What an endpoint is judged by where a customer wishes by percentile: all of its answers of late, and its model's."""

from uuid import UUID

import pytest
from marketplace.routing.test_route import NEEDS, candidates, endpoint, ids, prices

from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference
from raymart_marketplace.supply.histogram import HALF_LIFE_S, KNOWN_S
from raymart_marketplace.supply.live import Served
from raymart_marketplace.supply.measured_pace import MeasuredPace
from raymart_marketplace.supply.pace import at_least, at_most
from raymart_marketplace.supply.track_record import TrackRecords

FIRST, SECOND, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


class World:
    """Two endpoints of a model, and what they answered."""

    def __init__(self):
        self.now = 1_000.0
        self.records = TrackRecords(clock=lambda: self.now)
        self.read = 0

    def clock(self):
        self.read += 1
        return self.now

    def pace(self, endpoint_id):
        return MeasuredPace(
            self.records.of(endpoint_id).figures, self.records.of_model("m"), clock=self.clock
        )

    def served(self, endpoint_id, *first_tokens_s, tokens_per_s=10):
        for first_token_s in first_tokens_s:
            served = Served(first_token_s=first_token_s, duration_s=10.0, tokens=10 * tokens_per_s)
            self.records.served(self.records.of(endpoint_id), self.records.of_model("m"), served)

    def ranked(self, wish):
        cheap = endpoint(1, prices=prices(1, 1), pace=self.pace(FIRST))
        return ids(candidates([cheap, endpoint(2, pace=self.pace(SECOND))], wish, NEEDS).ranked)


@pytest.fixture
def world():
    return World()


class TestWishes:
    def test_who_is_well_on_the_mean_but_late_at_times_is_put_behind_by_p99_and_not_by_p50(self, world):
        world.served(FIRST, *[0.1] * 290, *[2.0] * 10)
        world.served(SECOND, *[0.3] * 300)
        mean_ms = world.records.of(FIRST).figures.first_token_ms.mean
        assert mean_ms < world.records.of(SECOND).figures.first_token_ms.mean
        assert world.ranked(NO_PREFERENCE) == [1, 2]
        assert world.ranked(RoutingPreference(first_token_ms_max_preferred=at_most(p50=500.0))) == [1, 2]
        assert world.ranked(RoutingPreference(first_token_ms_max_preferred=at_most(p90=500.0))) == [1, 2]
        assert world.ranked(RoutingPreference(first_token_ms_max_preferred=at_most(p99=500.0))) == [2, 1]

    def test_a_rates_percentile_is_that_of_the_slow(self, world):
        world.served(FIRST, *[0.1] * 255, tokens_per_s=100)
        world.served(FIRST, *[0.1] * 45, tokens_per_s=5)
        world.served(SECOND, *[0.1] * 300, tokens_per_s=50)
        rates = world.pace(FIRST).tokens_per_s
        assert rates.p50 == pytest.approx(100, rel=0.1)
        assert rates.p99 == pytest.approx(5, rel=0.1)
        assert world.ranked(RoutingPreference(tokens_per_s_min_preferred=at_least(p75=30.0))) == [1, 2]
        assert world.ranked(RoutingPreference(tokens_per_s_min_preferred=at_least(p90=30.0))) == [2, 1]

    def test_of_whom_little_is_known_is_taken_to_be_like_the_others(self, world):
        assert world.pace(FIRST).first_token_ms is None
        assert world.ranked(RoutingPreference(first_token_ms_max_preferred=at_most(p50=1.0))) == [1, 2]
        world.served(SECOND, *[3.0] * 100)
        world.served(FIRST, 0.1)
        world.now += KNOWN_S
        assert world.pace(THIRD).first_token_ms.p50 == pytest.approx(3_000, rel=0.1)
        assert world.pace(FIRST).first_token_ms.p50 == pytest.approx(3_000, rel=0.1), (
            "one answer proves nothing"
        )
        world.served(FIRST, *[0.1] * 20)
        assert world.pace(FIRST).first_token_ms.p50 == pytest.approx(100, rel=0.1)

    def test_a_slow_spell_is_over_when_it_is_old(self, world):
        world.served(FIRST, *[5.0] * 50)
        assert world.pace(FIRST).first_token_ms.p90 == pytest.approx(5_000, rel=0.1)
        for _ in range(20):
            world.now += HALF_LIFE_S / 2
            world.served(FIRST, *[0.1] * 5)
        assert world.pace(FIRST).first_token_ms.p90 == pytest.approx(100, rel=0.1)


class TestCost:
    def test_nothing_is_computed_for_a_request_that_wishes_for_none(self, world):
        world.served(FIRST, 0.1)
        world.ranked(NO_PREFERENCE)
        world.ranked(RoutingPreference(only=("north",)))
        assert world.read == 0

    def test_what_was_computed_is_used_again_for_a_moment(self, world):
        world.served(FIRST, 0.1)
        pace = world.pace(FIRST)
        before = pace.first_token_ms
        world.now += KNOWN_S - 0.01
        assert pace.first_token_ms is before
        world.now += 0.01
        assert pace.first_token_ms is not before
