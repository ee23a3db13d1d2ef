"""A market of thousands decides by a look at a few, and decides as if it had looked at all."""

import dataclasses
from collections import Counter
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marketplace.routing.test_route import NEEDS, endpoint, endpoint_sets, generating, prices, wishes

from raymart_marketplace.routing.market import (
    EXACT_MAX,
    FOUND_S,
    INLINE_MAX,
    LOOKS_MAX,
    USED_S,
    VIEW_S,
    VIEWS_MAX,
    Market,
)
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.ranking import price_weight, sift
from raymart_marketplace.routing.route import Reason, verdict
from raymart_marketplace.routing.toss import Toss, mix
from raymart_marketplace.supply.live import Standing
from raymart_marketplace.supply.pace import at_least


class Row:
    """A live endpoint whose figures a test may change."""

    def __init__(self, number, **changes):
        shape = endpoint(number, **changes)
        self.__dict__.update(msgspec.structs.asdict(shape))
        self.is_sold = True

    def __repr__(self):
        return f"Row({self.id.int})"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def rows_of(count, **changes):
    return [
        Row(number, prices=prices(1 + number % 50, 1 + number % 50), **changes)
        for number in range(1, count + 1)
    ]


def chosen(market, wish=NO_PREFERENCE, *, sort=Sort.BALANCED, seed=0, needs=NEEDS, wanted=3):
    choice = market.choose(wish, needs, sort=sort, toss=Toss(mix(seed), market.cursor), wanted=wanted)
    return [row.id.int for row in choice.rows]


def tended(market):
    for _ in market.tend():
        pass


@pytest.fixture
def clock():
    return Clock()


class TestFew:
    @given(endpoint_sets, wishes, st.integers(0, 9), st.sampled_from(Sort))
    def test_the_decision_is_that_over_all(self, endpoints, wish, seed, sort):
        market = Market(endpoints)
        choice = market.choose(wish, NEEDS, sort=sort, toss=Toss(seed), wanted=3)
        found = sift(endpoints, wish, NEEDS, sort=wish.sort or sort, toss=Toss(seed))
        assert choice.rows == found.ranked[:3]
        assert choice.is_last_resort == found.is_last_resort
        assert choice.looked_at == len(endpoints)

    def test_what_has_no_price_is_not_there(self):
        rows = rows_of(3)
        rows[0].is_sold = False
        assert 1 not in chosen(Market(rows))

    def test_what_was_removed_is_not_chosen(self):
        market = Market(rows_of(3))
        market.remove(UUID(int=2))
        assert sorted(chosen(market)) == [1, 3]


class TestPace:
    def test_of_many_the_slow_are_drawn_only_where_nothing_else_is_left(self):
        rows = rows_of(200, pace=generating(9.0))
        for row in rows[::10]:
            row.pace = generating(90.0)
        fast = {row.id.int for row in rows[::10]}
        wish = RoutingPreference(tokens_per_s_min_preferred=at_least(p50=50.0))
        market = Market(rows)
        for seed in range(20):
            assert chosen(market, wish, seed=seed, wanted=1)[0] in fast
        assert len(chosen(Market(rows_of(200, pace=generating(9.0))), wish)) == 3


many_wishes = wishes.filter(lambda wish: wish.completion_nano_usd_max != 0)


class TestMany:
    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(endpoint_sets, min_size=6, max_size=12),
        many_wishes,
        st.integers(0, 99),
        st.sampled_from(Sort),
    )
    def test_only_what_may_serve_is_chosen_and_nothing_only_when_nothing_may(self, sets, wish, seed, sort):
        endpoints = [
            msgspec.structs.replace(each, id=UUID(int=number), model_slug="m")
            for number, each in enumerate(each for some in sets for each in some)
        ]
        choice = Market(endpoints).choose(wish, NEEDS, sort=sort, toss=Toss(mix(seed)), wanted=3)
        accepted = sift(endpoints, dataclasses.replace(wish, allow_fallbacks=True) if not wish.order else wish,
                        NEEDS, sort=sort, toss=Toss(0))  # fmt: skip
        assert set(choice.rows) <= set(accepted.ranked)
        assert len(set(choice.rows)) == len(choice.rows)
        assert bool(choice.rows) == bool(accepted.ranked)
        assert choice.is_last_resort == (accepted.is_last_resort and bool(accepted.ranked))
        if wish.allow_fallbacks:
            assert len(choice.rows) >= min(2, len(accepted.ranked))
        elif not wish.order:
            assert len({row.provider_slug for row in choice.rows}) <= 1

    @pytest.mark.parametrize("sort", Sort)
    def test_the_same_seed_decides_the_same_however_the_market_came_about(self, sort):
        rows = rows_of(500)
        needs = msgspec.structs.replace(NEEDS, affinity=12345)
        one, other = Market(rows), Market(rows[::-1])
        for seed in range(20):
            assert chosen(one, sort=sort, seed=seed, needs=needs) == chosen(
                other, sort=sort, seed=seed, needs=needs
            )

    def test_shares_follow_the_inverse_square_of_the_price(self):
        rows = rows_of(200)
        market = Market(rows)
        counts = Counter(chosen(market, seed=seed, wanted=1)[0] % 50 for seed in range(20_000))
        weights = Counter()
        for row in rows:
            weights[row.id.int % 50] += price_weight(row.prices)
        for place in (0, 1, 2, 3):
            expected = weights[place] / weights.total()
            assert counts[place] / 20_000 == pytest.approx(expected, abs=0.015)

    def test_the_cheapest_are_found(self):
        assert {each % 50 for each in chosen(Market(rows_of(1_000)), sort=Sort.PRICE)} == {0}

    def test_the_cheapest_at_the_requests_own_bounds_is_found(self):
        """Whatever its mix of prompt and answer; by a typical mix neither is among the cheapest."""
        rows = [Row(number, prices=prices(10, 10)) for number in range(1, 60)]
        rows += [Row(60, prices=prices(20, 1)), Row(61, prices=prices(1, 90))]
        long_answer = msgspec.structs.replace(NEEDS, tokens_prompt_max=1, tokens_completion_max=1_000)
        assert chosen(Market(rows), sort=Sort.PRICE, needs=long_answer, wanted=1) == [60]
        long_prompt = msgspec.structs.replace(NEEDS, tokens_prompt_max=1_000, tokens_completion_max=1)
        assert chosen(Market(rows), sort=Sort.PRICE, needs=long_prompt, wanted=1) == [61]

    @pytest.mark.parametrize(
        ("sort", "better"),
        [
            (Sort.LATENCY, {"first_token_ms": 1.0}),
            (Sort.THROUGHPUT, {"tokens_per_s": 500.0}),
            (Sort.HEALTH, {"first_token_ms": 1.0}),
        ],
    )
    def test_the_best_by_a_measured_figure_is_found(self, sort, better):
        rows = rows_of(300, first_token_ms=50.0, tokens_per_s=50.0)
        rows[123].__dict__.update(better)
        assert chosen(Market(rows), sort=sort)[0] == 124

    def test_the_least_loaded_of_a_sample_comes_first(self):
        rows = rows_of(300, capacity=10, running=9)
        for row in rows[::2]:
            row.running = 0
        market = Market(rows)
        assert all(chosen(market, sort=Sort.LEAST_LOADED, seed=seed)[0] % 2 for seed in range(100))

    def test_round_robin_serves_all_before_any_twice(self):
        market = Market(rows_of(100))
        served = [chosen(market, sort=Sort.ROUND_ROBIN, wanted=1)[0] for _ in range(200)]
        assert sorted(served[:100]) == list(range(1, 101))
        assert served[100:] == served[:100]

    def test_affinity_stays_and_gives_way_to_a_full_endpoint(self):
        market = Market(rows := rows_of(300))
        needs = msgspec.structs.replace(NEEDS, affinity=99)
        [home] = chosen(market, sort=Sort.AFFINITY, needs=needs, wanted=1)
        assert {chosen(market, sort=Sort.AFFINITY, needs=needs, seed=seed)[0] for seed in range(50)} == {home}
        rows[home - 1].running = 99
        [other] = chosen(market, sort=Sort.AFFINITY, needs=needs, wanted=1)
        assert other != home
        rows[home - 1].running = 0
        assert chosen(market, sort=Sort.AFFINITY, needs=needs, wanted=1) == [home]

    def test_free_slots_come_first_and_full_ones_only_where_none_is_found(self):
        rows = rows_of(300)
        for row in rows[:250]:
            row.running = row.capacity
        market = Market(rows)
        for seed in range(100):
            assert chosen(market, seed=seed)[0] > 250
        for row in rows:
            row.running = row.capacity
        assert len(chosen(market)) == 3

    def test_the_current_revision_comes_before_a_superseded_one(self):
        rows = rows_of(300)
        for row in rows[::2]:
            row.standing = Standing.SUPERSEDED
        market = Market(rows)
        assert all(chosen(market, seed=seed, wanted=1)[0] % 2 == 0 for seed in range(100))

    def test_a_breaker_that_opens_counts_at_once(self):
        rows = rows_of(300)
        market = Market(rows)
        [first] = chosen(market, sort=Sort.PRICE, wanted=1)
        rows[first - 1].quarantined = True
        assert chosen(market, sort=Sort.PRICE, wanted=1) != [first]

    def test_when_all_failed_the_least_bad_is_tried(self):
        rows = rows_of(300, quarantined=True, rests_until=9.0)
        rows[41].rests_until = 3.0
        choice = Market(rows).choose(NO_PREFERENCE, NEEDS, sort=Sort.BALANCED, toss=Toss(0), wanted=2)
        assert choice.rows[0].id.int == 42
        assert choice.is_last_resort

    def test_the_needle_is_found(self):
        """What a few looks do not find, a look at all does."""
        rows = rows_of(1_000)
        rows[777].context_length = 1_000_000
        needs = msgspec.structs.replace(NEEDS, tokens_min=500_000)
        assert chosen(Market(rows), needs=needs) == [778]

    def test_what_a_look_at_all_showed_is_good_for_a_moment(self, clock):
        rows = rows_of(300, crowded=True)
        market = Market(rows, clock=clock)
        assert chosen(market) == []
        assert market.rejections(NO_PREFERENCE, NEEDS).others == {Reason.CROWDED: 280}
        rows[4].crowded = False
        assert chosen(market) == [], "refused as quickly as served"
        clock.now += FOUND_S
        assert chosen(market) == [5]
        assert market.rejections(NO_PREFERENCE, NEEDS).others == {Reason.CROWDED: 279}

    def test_a_rare_endpoint_that_was_found_is_judged_anew(self, clock):
        rows = rows_of(300)
        rows[77].context_length = rows[88].context_length = 1_000_000
        market = Market(rows, clock=clock)
        needs = msgspec.structs.replace(NEEDS, tokens_min=600_000)
        assert sorted(chosen(market, needs=needs)) == [78, 89]
        rows[77].crowded = True
        assert chosen(market, needs=needs) == [89]
        rows[90].context_length = 1_000_000
        rows[88].quarantined = True
        assert chosen(market, needs=needs) == [91], (
            "none of those that were found may serve, so all are looked at"
        )

    def test_what_was_found_for_a_long_request_is_found_for_a_shorter_one_too(self, clock):
        rows = rows_of(300)
        rows[77].context_length, rows[88].context_length = 1_000_000, 600_000
        market = Market(rows, clock=clock)
        longer = msgspec.structs.replace(NEEDS, tokens_min=700_000)
        shorter = msgspec.structs.replace(NEEDS, tokens_min=550_000)
        assert chosen(market, needs=longer) == [78]
        assert sorted(chosen(market, needs=shorter)) == [78, 89]
        assert chosen(market, needs=msgspec.structs.replace(NEEDS, tokens_min=1_000_001)) == []
        assert chosen(market, needs=msgspec.structs.replace(NEEDS, tokens_min=999_999)) == [78]

    def test_when_nothing_may_serve_the_reasons_are_told_or_counted(self):
        rows = rows_of(100, crowded=True)
        for row in rows[50:]:
            row.context_length = 9
        why = Market(rows).rejections(NO_PREFERENCE, NEEDS)
        assert [row.id.int for row, _ in why.first] == list(range(1, 21))
        assert {found.reason for _, found in why.first} == {Reason.CROWDED}
        assert why.others == {Reason.CROWDED: 30, Reason.CONTEXT: 50}
        assert why.context_max is None
        assert Market(rows[50:]).rejections(NO_PREFERENCE, NEEDS).context_max == 9

    def test_few_looks_are_enough(self):
        rows = rows_of(10_000)
        for sort in Sort:
            choice = Market(rows).choose(NO_PREFERENCE, NEEDS, sort=sort, toss=Toss(3), wanted=3)
            assert choice.looked_at <= LOOKS_MAX


class TestWishes:
    def test_the_customers_order_holds_whatever_the_price(self):
        rows = rows_of(300, provider_slug="north")
        rows += [Row(900 + each, provider_slug="west", prices=prices(99, 99)) for each in range(2)]
        market = Market(rows)
        wish = RoutingPreference(order=("west", "south"))
        assert set(chosen(market, wish)[:2]) == {900, 901}
        assert chosen(market, wish)[2] < 900
        only = RoutingPreference(order=("west",), allow_fallbacks=False)
        assert set(chosen(market, only)) == {900, 901}
        assert chosen(market, RoutingPreference(order=("east",), allow_fallbacks=False)) == []

    def test_only_names_among_many(self):
        rows = rows_of(300) + [Row(900 + each, provider_slug="west") for each in range(50)]
        market = Market(rows)
        assert {
            chosen(market, RoutingPreference(only=("west",)), seed=seed)[0] for seed in range(600)
        } == set(range(900, 950))

    def test_without_fallbacks_only_the_first_provider_stays(self):
        rows = [
            Row(number, provider_slug=("north", "south", "east", "west")[number % 4]) for number in range(400)
        ]
        market = Market(rows)
        for seed in range(20):
            found = chosen(market, RoutingPreference(allow_fallbacks=False), seed=seed)
            assert len({rows[number].provider_slug for number in found}) == 1

    def test_a_named_revision_among_many(self):
        rows = rows_of(300)
        rows[7].revision_digest = "sha256:77"
        assert chosen(Market(rows), needs=msgspec.structs.replace(NEEDS, revision="sha256:77")) == [8]

    def test_views_are_bounded_in_number(self):
        market = Market(rows_of(100))
        chosen(market, RoutingPreference(ignore=("nobody",)))
        assert not market._views, "a wish that most meet needs none"
        for number in range(3 * VIEWS_MAX):
            chosen(market, RoutingPreference(ignore=("north", str(number))))
        assert len(market._views) == VIEWS_MAX


class TestTending:
    def test_a_small_market_sees_changes_at_once(self, clock):
        rows = rows_of(INLINE_MAX)
        market = Market(rows, clock=clock)
        assert chosen(market, sort=Sort.PRICE, wanted=1) != [5]
        rows[4].prices = prices(0, 0)
        market.changed()
        assert chosen(market, sort=Sort.PRICE, wanted=1) == [5]
        market.remove(rows[4].id)
        assert chosen(market, sort=Sort.PRICE, wanted=1) != [5]

    def test_a_large_one_when_it_was_tended_and_what_is_gone_at_once(self, clock):
        rows = rows_of(INLINE_MAX + 10)
        market = Market(rows, clock=clock)
        [cheapest] = chosen(market, sort=Sort.PRICE, wanted=1)
        market.add(Row(9_000, prices=prices(0, 0)))
        assert chosen(market, sort=Sort.PRICE, wanted=1) == [cheapest]
        tended(market)
        assert chosen(market, sort=Sort.PRICE, wanted=1) == [9_000]
        market.remove(rows[cheapest - 1].id)
        rows[cheapest - 1].is_sold = False
        assert cheapest not in chosen(market, sort=Sort.PRICE, wanted=3)

    def test_measured_figures_are_looked_at_again(self, clock):
        rows = rows_of(INLINE_MAX + 10, first_token_ms=50.0)
        market = Market(rows, clock=clock)
        chosen(market, sort=Sort.LATENCY)
        rows[200].first_token_ms = 1.0
        tended(market)
        assert chosen(market, sort=Sort.LATENCY, wanted=1) != [201]
        clock.now += 1.0
        tended(market)
        assert chosen(market, sort=Sort.LATENCY, wanted=1) == [201]

    def test_prices_that_change_by_the_clock_are_looked_at_again(self, clock):
        rows = rows_of(INLINE_MAX + 10)
        market = Market(rows, clock=clock)
        chosen(market, sort=Sort.PRICE)
        rows[4].prices = prices(0, 0)
        clock.now += 3.0
        tended(market)
        assert chosen(market, sort=Sort.PRICE, wanted=1) == [5]

    def test_a_wish_sees_who_joined_when_it_was_tended(self, clock):
        market = Market(rows_of(INLINE_MAX + 10), clock=clock)
        wish = RoutingPreference(only=("west",))
        assert chosen(market, wish) == []
        market.add(Row(9_000, provider_slug="west"))
        tended(market)
        assert chosen(market, wish) == [9_000]

    def test_a_price_cap_sees_who_became_cheap(self, clock):
        rows = rows_of(INLINE_MAX + 10)
        market = Market(rows, clock=clock)
        wish = RoutingPreference(prompt_nano_usd_max=0)
        assert chosen(market, wish) == []
        rows[4].prices = prices(0, 0)
        clock.now += VIEW_S + 0.1
        tended(market)
        assert chosen(market, wish) == [5]

    def test_what_nobody_asks_for_is_dropped(self, clock):
        market = Market(rows_of(INLINE_MAX + 10), clock=clock)
        chosen(market, RoutingPreference(only=("north",)))
        chosen(market)
        assert market._orders
        assert market._views
        clock.now += USED_S + 0.1
        tended(market)
        assert not market._orders
        assert not market._views


def test_exact_is_what_tests_of_a_few_endpoints_rely_on():
    assert EXACT_MAX >= 12


def test_rows_are_judged_as_endpoints_are():
    assert verdict(Row(1), NO_PREFERENCE, NEEDS) is None
