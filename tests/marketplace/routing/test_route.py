"""Routing is total, deterministic and never picks what the customer ruled out."""

import dataclasses
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.route import Needs, Reason, candidates
from raymart_marketplace.supply.live import LiveEndpoint, Standing

NEEDS = Needs(model_slug="m", tokens_prompt_max=100, tokens_completion_max=100, tokens_min=101)
PROVIDERS = ("north", "south", "east", "west")


def endpoint(number: int = 1, **changes: object) -> LiveEndpoint:
    provider = str(changes.get("provider_slug", "north"))
    standard = LiveEndpoint(
        id=UUID(int=number), node_id=UUID(int=1000 + number), node_name=f"node-{number}",
        provider_id=UUID(int=2000 + PROVIDERS.index(provider)), provider_slug=provider,
        offer_id=UUID(int=3000 + number), revision_id=UUID(int=4000), revision_digest="sha256:00", model_slug="m",
        modality=Modality.CHAT, engine="e", quantization="q8_0", region="here", context_length=1024,
        prices=Prices(token_prompt=10, token_completion=20), fee_basis_points=1_000, capacity=4, running=0, quarantined=False,
    )  # fmt: skip
    return dataclasses.replace(standard, **changes)  # type: ignore[arg-type]


def prices(prompt: int, completion: int) -> Prices:
    return Prices(token_prompt=prompt, token_completion=completion)


def ids(endpoints: tuple[LiveEndpoint, ...]) -> list[int]:
    return [each.id.int for each in endpoints]


class TestRevision:
    def test_without_a_name_a_candidate_gets_no_request(self):
        routing = candidates([endpoint(1), endpoint(2, standing=Standing.CANDIDATE)], NO_PREFERENCE, NEEDS)

        assert ids(routing.ranked) == [1]
        assert [(each.endpoint.id.int, each.reason) for each in routing.rejected] == [(2, Reason.REVISION)]

    def test_a_superseded_one_serves_where_the_current_cannot(self):
        old = endpoint(1, standing=Standing.SUPERSEDED, prices=prices(1, 1))
        assert ids(candidates([old, endpoint(2)], NO_PREFERENCE, NEEDS).ranked) == [2, 1]
        assert ids(candidates([old, endpoint(2, running=4)], NO_PREFERENCE, NEEDS).ranked) == [1, 2]
        assert ids(candidates([old], NO_PREFERENCE, NEEDS).ranked) == [1]

    @pytest.mark.parametrize("name", ["latest", "sha256:01"])
    def test_by_alias_or_digest_only_that_revision_serves(self, name):
        named = dataclasses.replace(NEEDS, revision=name)
        wanted = endpoint(1, standing=Standing.CANDIDATE, aliases=("latest",), revision_digest="sha256:01")
        routing = candidates([wanted, endpoint(2, aliases=("stable",))], NO_PREFERENCE, named)

        assert ids(routing.ranked) == [1]
        assert routing.rejected[0].detail == f"serves sha256:00 (stable), not {name}"


class TestRank:
    def test_the_cheapest_at_the_requests_bounds_comes_first(self):
        cheap_prompt = endpoint(1, prices=prices(1, 30))
        cheap_completion = endpoint(2, prices=prices(30, 1))
        long_prompt = dataclasses.replace(NEEDS, tokens_prompt_max=1000, tokens_completion_max=1)
        long_answer = dataclasses.replace(NEEDS, tokens_prompt_max=1, tokens_completion_max=1000)
        assert ids(candidates([cheap_prompt, cheap_completion], NO_PREFERENCE, long_prompt).ranked) == [1, 2]
        assert ids(candidates([cheap_prompt, cheap_completion], NO_PREFERENCE, long_answer).ranked) == [2, 1]

    def test_a_free_slot_beats_a_lower_price(self):
        full = endpoint(1, prices=prices(1, 1), running=4)
        free = endpoint(2, prices=prices(50, 50))
        assert ids(candidates([full, free], NO_PREFERENCE, NEEDS).ranked) == [2, 1]

    def test_the_customers_order_beats_free_slots_and_price(self):
        wish = RoutingPreference(order=("west", "south"))
        endpoints = [
            endpoint(1, prices=prices(1, 1)),
            endpoint(2, provider_slug="south", prices=prices(5, 5)),
            endpoint(3, provider_slug="west", prices=prices(9, 9), running=4),
        ]
        assert ids(candidates(endpoints, wish, NEEDS).ranked) == [3, 2, 1]

    def test_a_provider_named_twice_keeps_its_first_place(self):
        wish = RoutingPreference(order=("west", "south", "west"))
        endpoints = [endpoint(1, provider_slug="south"), endpoint(2, provider_slug="west")]
        assert ids(candidates(endpoints, wish, NEEDS).ranked) == [2, 1]

    def test_equal_prices_go_to_the_less_loaded(self):
        assert ids(
            candidates([endpoint(1, running=2), endpoint(2, running=1)], NO_PREFERENCE, NEEDS).ranked
        ) == [2, 1]

    @pytest.mark.parametrize("sort", [Sort.LATENCY, Sort.THROUGHPUT])
    def test_by_latency_or_throughput_the_less_loaded_beats_the_cheaper(self, sort):
        endpoints = [endpoint(1, running=1, prices=prices(1, 1)), endpoint(2, prices=prices(9, 9))]
        assert ids(candidates(endpoints, RoutingPreference(sort=sort), NEEDS).ranked) == [2, 1]

    def test_without_fallbacks_only_the_best_provider_stays(self):
        endpoints = [endpoint(1, prices=prices(9, 9)), endpoint(2, provider_slug="south"), endpoint(3)]
        wish = RoutingPreference(allow_fallbacks=False)
        routing = candidates(endpoints, wish, NEEDS)
        assert ids(routing.ranked) == [1, 3]
        assert [each.reason for each in routing.rejected] == [Reason.FALLBACK]


class TestRejection:
    @pytest.mark.parametrize(
        ("changes", "wish", "reason", "said"),
        [
            ({"model_slug": "other"}, NO_PREFERENCE, Reason.MODEL, "serves other"),
            ({}, RoutingPreference(only=("south",)), Reason.NOT_IN_ONLY, "provider.only"),
            ({}, RoutingPreference(ignore=("north",)), Reason.IGNORED, "provider.ignore"),
            ({}, RoutingPreference(order=("south",), allow_fallbacks=False), Reason.NOT_IN_ORDER, "allow_fallbacks"),
            ({}, RoutingPreference(prompt_nano_usd_max=9), Reason.PRICE, "asks 10 nano-USD per prompt token"),
            ({}, RoutingPreference(completion_nano_usd_max=19), Reason.PRICE, "asks 20 nano-USD per completion token"),
            ({"context_length": 100}, NO_PREFERENCE, Reason.CONTEXT, "context of 100 tokens"),
            ({"quarantined": True}, NO_PREFERENCE, Reason.QUARANTINED, "failed a moment ago"),
        ],
    )  # fmt: skip
    def test_each_rule_rejects_with_its_own_reason(self, changes, wish, reason, said):
        routing = candidates([endpoint(1, **changes)], wish, NEEDS)
        assert routing.ranked == ()
        assert [each.reason for each in routing.rejected] == [reason]
        assert said in routing.rejected[0].detail

    def test_limits_are_inclusive(self):
        wish = RoutingPreference(prompt_nano_usd_max=10, completion_nano_usd_max=20)
        assert ids(candidates([endpoint(1, context_length=101)], wish, NEEDS).ranked) == [1]


slugs = st.sampled_from(PROVIDERS)
endpoint_sets = st.lists(
    st.builds(
        lambda **changes: changes,
        provider_slug=slugs,
        model_slug=st.sampled_from(("m", "m", "m", "other")),
        context_length=st.sampled_from((64, 128, 1024)),
        prices=st.builds(prices, st.integers(0, 50), st.integers(0, 50)),
        capacity=st.integers(0, 4),
        running=st.integers(0, 6),
        quarantined=st.booleans(),
    ),
    max_size=8,
).map(lambda all_changes: [endpoint(number, **changes) for number, changes in enumerate(all_changes)])
wishes = st.builds(
    RoutingPreference,
    order=st.lists(slugs, max_size=3).map(tuple),
    only=st.lists(slugs, max_size=3).map(tuple),
    ignore=st.lists(slugs, max_size=2).map(tuple),
    allow_fallbacks=st.booleans(),
    sort=st.sampled_from(Sort),
    prompt_nano_usd_max=st.none() | st.integers(0, 50),
    completion_nano_usd_max=st.none() | st.integers(0, 50),
)


class TestProperties:
    @given(endpoint_sets, wishes, st.randoms())
    def test_the_order_of_the_input_does_not_matter(self, endpoints, wish, random):
        shuffled = list(endpoints)
        random.shuffle(shuffled)
        assert candidates(shuffled, wish, NEEDS) == candidates(endpoints, wish, NEEDS)

    @given(endpoint_sets, wishes)
    def test_every_endpoint_is_ranked_or_rejected_once(self, endpoints, wish):
        routing = candidates(endpoints, wish, NEEDS)
        seen = ids(routing.ranked) + [each.endpoint.id.int for each in routing.rejected]
        assert sorted(seen) == ids(tuple(endpoints))

    @given(endpoint_sets, wishes)
    def test_nothing_ruled_out_is_ranked(self, endpoints, wish):
        for each in candidates(endpoints, wish, NEEDS).ranked:
            assert each.model_slug == "m"
            assert not each.quarantined
            assert each.context_length >= NEEDS.tokens_min
            assert each.provider_slug not in wish.ignore
            assert not wish.only or each.provider_slug in wish.only
            assert wish.allow_fallbacks or not wish.order or each.provider_slug in wish.order
            for price, limit in (
                (each.prices.token_prompt, wish.prompt_nano_usd_max),
                (each.prices.token_completion, wish.completion_nano_usd_max),
            ):
                assert limit is None or price <= limit

    @given(endpoint_sets, wishes)
    def test_the_winner_stays_the_winner_without_a_loser(self, endpoints, wish):
        routing = candidates(endpoints, wish, NEEDS)
        if len(routing.ranked) > 1:
            rest = [each for each in endpoints if each.id != routing.ranked[-1].id]
            assert candidates(rest, wish, NEEDS).ranked[0] == routing.ranked[0]
