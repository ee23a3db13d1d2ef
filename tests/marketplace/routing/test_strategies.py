"""What each strategy prefers, and that chance is fair and can be repeated."""

from collections import Counter

import msgspec
import pytest
from marketplace.routing.test_route import NEEDS, endpoint, ids, prices

from raymart_core.ports import Prices
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.ranking import candidates, price_weight
from raymart_marketplace.routing.toss import Toss, mix, point

ROUNDS = 20_000


def first(endpoints, sort, *, needs=NEEDS, seed=0, cursor=0):
    return candidates(endpoints, NO_PREFERENCE, needs, sort=sort, toss=Toss(seed, cursor)).ranked[0].id.int


def shares(endpoints, sort):
    """How often each is first, over many seeds."""
    counts = Counter(first(endpoints, sort, seed=mix(seed)) for seed in range(ROUNDS))
    return {number: count / ROUNDS for number, count in counts.items()}


class TestBalanced:
    def test_shares_follow_the_inverse_square_of_the_price(self):
        """Of prices 1 : 2 : 3 the shares are 1 : 1/4 : 1/9."""
        endpoints = [endpoint(number, prices=prices(number, number)) for number in (1, 2, 3)]
        found = shares(endpoints, Sort.BALANCED)
        whole = 1 + 1 / 4 + 1 / 9
        for number in (1, 2, 3):
            # Four standard deviations of a share over so many rounds.
            assert found[number] == pytest.approx(1 / number**2 / whole, abs=4 * 0.5 / ROUNDS**0.5)

    def test_the_second_choice_is_drawn_from_the_rest_by_the_same_weights(self):
        endpoints = [endpoint(number, prices=prices(number, number)) for number in (1, 2, 3)]
        seconds = Counter(
            candidates(endpoints, NO_PREFERENCE, NEEDS, sort=Sort.BALANCED, toss=Toss(mix(seed)))
            .ranked[1]
            .id.int
            for seed in range(ROUNDS)
            if first(endpoints, Sort.BALANCED, seed=mix(seed)) == 1
        )
        assert seconds[2] / seconds.total() == pytest.approx(9 / 13, abs=0.02)

    def test_the_same_seed_decides_the_same_whatever_the_order_of_the_endpoints(self):
        endpoints = [endpoint(number) for number in range(1, 9)]
        one = candidates(endpoints, NO_PREFERENCE, NEEDS, sort=Sort.BALANCED, toss=Toss(7))
        other = candidates(endpoints[::-1], NO_PREFERENCE, NEEDS, sort=Sort.BALANCED, toss=Toss(7))
        assert one == other
        assert len({first(endpoints, Sort.BALANCED, seed=seed) for seed in range(50)}) == 8

    def test_what_is_free_takes_nearly_everything(self):
        assert price_weight(Prices()) == 1.0
        endpoints = [endpoint(1, prices=Prices()), endpoint(2, prices=prices(1, 1))]
        assert shares(endpoints, Sort.BALANCED).get(2, 0) < 0.001

    def test_a_full_endpoint_comes_after_every_free_one(self):
        full, free = endpoint(1, prices=prices(1, 1), running=4), endpoint(2, prices=prices(90, 90))
        assert {first([full, free], Sort.BALANCED, seed=seed) for seed in range(200)} == {2}

    def test_pictures_are_weighed_by_their_own_unit(self):
        cheap, dear = Prices(image_megapixel_step=10), Prices(image_megapixel_step=30)
        assert price_weight(cheap) == pytest.approx(9 * price_weight(dear))


class TestOthers:
    def test_weighted_shares_follow_the_slots(self):
        found = shares([endpoint(1, capacity=1), endpoint(2, capacity=3)], Sort.WEIGHTED)
        assert found[2] == pytest.approx(0.75, abs=0.02)

    def test_latency_prefers_the_soonest_and_throughput_the_fastest(self):
        endpoints = [
            endpoint(1, first_token_ms=90.0, tokens_per_s=90.0),
            endpoint(2, first_token_ms=20.0, tokens_per_s=20.0),
        ]
        assert first(endpoints, Sort.LATENCY) == 2
        assert first(endpoints, Sort.THROUGHPUT) == 1

    def test_least_loaded_prefers_the_smallest_share_taken(self):
        endpoints = [endpoint(1, capacity=2, running=1), endpoint(2, capacity=8, running=3)]
        assert first(endpoints, Sort.LEAST_LOADED) == 2

    @pytest.mark.parametrize(
        ("better", "worse"),
        [
            ({"first_token_ms": 50.0}, {"first_token_ms": 80.0}),
            ({"error_rate": 0.1}, {"error_rate": 0.5}),
            ({"running": 0}, {"running": 3}),
            ({"first_token_ms": 90.0}, {"first_token_ms": 50.0, "error_rate": 0.5}),
        ],
    )
    def test_health_weighs_wait_failures_and_load(self, better, worse):
        common = {"first_token_ms": 60.0}
        assert first([endpoint(1, **common | worse), endpoint(2, **common | better)], Sort.HEALTH) == 2

    def test_round_robin_goes_round(self):
        endpoints = [endpoint(number) for number in range(1, 6)]
        served, cursor = [], 0
        for _ in range(10):
            served.append(first(endpoints, Sort.ROUND_ROBIN, cursor=cursor))
            cursor = point(endpoints[served[-1] - 1].id)
        assert sorted(served[:5]) == [1, 2, 3, 4, 5]
        assert served[5:] == served[:5]

    def test_affinity_keeps_a_conversation_and_spreads_many(self):
        endpoints = [endpoint(number) for number in range(1, 5)]
        homes = {
            key: first(
                endpoints, Sort.AFFINITY, needs=msgspec.structs.replace(NEEDS, affinity=mix(key)), seed=key
            )
            for key in range(1, 2_001)
        }
        assert all(
            home == first(endpoints, Sort.AFFINITY, needs=msgspec.structs.replace(NEEDS, affinity=mix(key)))
            for key, home in homes.items()
        )
        assert min(Counter(homes.values()).values()) > 400

    def test_an_endpoint_that_leaves_moves_only_its_own_conversations(self):
        endpoints = [endpoint(number) for number in range(1, 5)]
        for key in range(1, 300):
            needs = msgspec.structs.replace(NEEDS, affinity=mix(key))
            home = first(endpoints, Sort.AFFINITY, needs=needs)
            if home != 4:
                assert first(endpoints[:3], Sort.AFFINITY, needs=needs) == home

    def test_scores_tell_why(self):
        routing = candidates(
            [endpoint(1, prices=prices(1, 1)), endpoint(2, prices=prices(2, 2))],
            RoutingPreference(sort=Sort.PRICE), NEEDS, toss=Toss(0),
        )  # fmt: skip
        assert ids(routing.ranked) == [1, 2]
        assert routing.scores == (200, 400)


class TestToss:
    def test_its_numbers_are_within_their_bounds(self):
        for seed in (0, 1, (1 << 64) - 1):
            toss = Toss(seed)
            assert all(0 <= toss.number(draw) < 1 for draw in range(1_000))
            assert all(0 < toss.share(mix(place)) < 1 for place in range(1_000))

    def test_numbers_are_even(self):
        counts = Counter(int(Toss(seed).number(draw) * 10) for seed in range(100) for draw in range(100))
        assert min(counts.values()) > 850
        assert max(counts.values()) < 1_150
