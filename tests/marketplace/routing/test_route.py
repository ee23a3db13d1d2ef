"""Routing is total, deterministic and never picks what the customer ruled out."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.routing import ranking
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.route import Needs, Reason
from raymart_marketplace.routing.toss import Toss
from raymart_marketplace.supply.live import LiveEndpoint, Standing
from raymart_marketplace.supply.pace import KnownPace, Percentiles, at_least, at_most
from raymart_marketplace.supply.trust import DataPolicy, Trust

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
    return msgspec.structs.replace(standard, **changes)  # type: ignore[arg-type]


def candidates(endpoints, wish, needs, *, sort=Sort.PRICE, seed=0):
    """The cheapest first, where neither test nor customer says otherwise."""
    return ranking.candidates(endpoints, wish, needs, sort=sort, toss=Toss(seed))


def prices(prompt: int, completion: int) -> Prices:
    return Prices(token_prompt=prompt, token_completion=completion)


def beginning(first_token_ms: float) -> KnownPace:
    """Always after so long."""
    return KnownPace(first_token_ms=Percentiles(*[first_token_ms] * 4))


def generating(tokens_per_s: float) -> KnownPace:
    """Always so fast."""
    return KnownPace(tokens_per_s=Percentiles(*[tokens_per_s] * 4))


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
        named = msgspec.structs.replace(NEEDS, revision=name)
        wanted = endpoint(1, standing=Standing.CANDIDATE, aliases=("latest",), revision_digest="sha256:01")
        routing = candidates([wanted, endpoint(2, aliases=("stable",))], NO_PREFERENCE, named)

        assert ids(routing.ranked) == [1]
        assert routing.rejected[0].detail == f"serves sha256:00 (stable), not {name}"


class TestRank:
    def test_the_cheapest_at_the_requests_bounds_comes_first(self):
        cheap_prompt = endpoint(1, prices=prices(1, 30))
        cheap_completion = endpoint(2, prices=prices(30, 1))
        long_prompt = msgspec.structs.replace(NEEDS, tokens_prompt_max=1000, tokens_completion_max=1)
        long_answer = msgspec.structs.replace(NEEDS, tokens_prompt_max=1, tokens_completion_max=1000)
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
            ({"prices": Prices(request=6)}, RoutingPreference(request_nano_usd_max=5), Reason.PRICE, "asks 6 nano-USD per request"),
            ({"capabilities": ("chat", "seed")}, RoutingPreference(capabilities=("seed", "tools")), Reason.PARAMETERS, "promise tools,"),
            ({"context_length": 100}, NO_PREFERENCE, Reason.CONTEXT, "context of 100 tokens"),
            ({"crowded": True}, NO_PREFERENCE, Reason.CROWDED, "under way"),
            ({}, RoutingPreference(regions=("eu", "her")), Reason.REGION, "is in here, not in eu, her"),
            ({}, RoutingPreference(quantizations=("fp8",)), Reason.QUANTIZATION, "serves q8_0 weights, not fp8"),
            ({}, RoutingPreference(trust=Trust.VERIFIED), Reason.TRUST, "is probed; verified is the least"),
            ({}, RoutingPreference(data_policy=DataPolicy.NO_RETENTION), Reason.DATA_POLICY, "has the data policy unstated"),
        ],
    )  # fmt: skip
    def test_each_rule_rejects_with_its_own_reason(self, changes, wish, reason, said):
        routing = candidates([endpoint(1, **changes)], wish, NEEDS)
        assert routing.ranked == ()
        assert [each.reason for each in routing.rejected] == [reason]
        assert said in routing.rejected[0].detail

    @pytest.mark.parametrize(
        ("changes", "wish"),
        [
            ({"region": "eu-west"}, RoutingPreference(regions=("us", "eu"))),
            ({"quantization": "fp8"}, RoutingPreference(quantizations=("fp8", "q8_0"))),
            ({"trust": Trust.VERIFIED}, RoutingPreference(trust=Trust.PROBED)),
            ({"capabilities": ("chat", "seed")}, RoutingPreference(capabilities=("seed",))),
            ({"prices": Prices(request=5)}, RoutingPreference(request_nano_usd_max=5)),
            ({"prices": Prices(image_megapixel_step=10**9)}, RoutingPreference(image_nano_usd_max=0)),
            (
                {"data_policy": DataPolicy.NO_RETENTION},
                RoutingPreference(data_policy=DataPolicy.NO_RETENTION),
            ),
        ],
    )
    def test_what_meets_the_wish_serves(self, changes, wish):
        assert ids(candidates([endpoint(1, **changes)], wish, NEEDS).ranked) == [1]

    @pytest.mark.parametrize(("limit", "serves"), [(24, False), (25, True)])
    def test_a_picture_costs_what_its_own_steps_do(self, limit, serves):
        # 2 pictures of 1,250,000 pixel-steps each at 20 nano-USD a million.
        needs = msgspec.structs.replace(NEEDS, pixel_steps=2_500_000, pictures=2)
        painter = endpoint(1, prices=Prices(image_megapixel_step=20))
        routing = candidates([painter], RoutingPreference(image_nano_usd_max=limit), needs)
        assert bool(routing.ranked) == serves

    def test_what_failed_a_moment_ago_serves_only_when_nothing_else_may(self):
        bad, worse = (
            endpoint(1, quarantined=True, rests_until=5.0),
            endpoint(2, quarantined=True, rests_until=9.0),
        )
        routing = candidates([worse, bad, endpoint(3)], NO_PREFERENCE, NEEDS)
        assert ids(routing.ranked) == [3]
        assert [each.reason for each in routing.rejected] == [Reason.QUARANTINED] * 2
        assert not routing.is_last_resort
        last = candidates([worse, bad, endpoint(3, crowded=True)], NO_PREFERENCE, NEEDS)
        assert ids(last.ranked) == [1, 2], "the one that rests shortest first"
        assert last.is_last_resort
        assert [each.reason for each in last.rejected] == [Reason.CROWDED]

    def test_the_last_resort_is_never_what_the_customer_ruled_out(self):
        routing = candidates([endpoint(1, quarantined=True)], RoutingPreference(ignore=("north",)), NEEDS)
        assert routing.ranked == ()

    def test_limits_are_inclusive(self):
        wish = RoutingPreference(prompt_nano_usd_max=10, completion_nano_usd_max=20)
        assert ids(candidates([endpoint(1, context_length=101)], wish, NEEDS).ranked) == [1]


class TestPace:
    FAST = RoutingPreference(tokens_per_s_min_preferred=at_least(p50=50.0))
    SOON = RoutingPreference(first_token_ms_max_preferred=at_most(p50=200.0))

    @pytest.mark.parametrize(
        ("wish", "slow", "well"),
        [(FAST, generating(49.0), generating(50.0)), (SOON, beginning(201.0), beginning(200.0))],
        ids=["throughput", "latency"],
    )  # fmt: skip
    def test_the_slow_come_last_however_cheap_and_still_serve(self, wish, slow, well):
        cheap = endpoint(1, prices=prices(1, 1), pace=slow)
        assert ids(candidates([cheap, endpoint(2, pace=well)], wish, NEEDS).ranked) == [2, 1]
        assert ids(candidates([cheap, endpoint(2)], wish, NEEDS).ranked) == [2, 1], "nothing is known of it"
        assert ids(candidates([cheap], wish, NEEDS).ranked) == [1]
        assert ids(candidates([cheap, endpoint(2, pace=well)], NO_PREFERENCE, NEEDS).ranked) == [1, 2]

    def test_a_free_slot_comes_before_a_fast_one(self):
        fast, slow = endpoint(1, pace=generating(90.0), running=4), endpoint(2, pace=generating(9.0))
        assert ids(candidates([fast, slow], self.FAST, NEEDS).ranked) == [2, 1]

    @pytest.mark.parametrize("name", Percentiles._fields)
    def test_each_percentile_is_held_against_the_limit_of_its_own_name(self, name):
        steady = KnownPace(Percentiles(100.0, 100.0, 100.0, 100.0), Percentiles(60.0, 60.0, 60.0, 60.0))
        late = steady._replace(first_token_ms=steady.first_token_ms._replace(**{name: 900.0}))
        lame = steady._replace(tokens_per_s=steady.tokens_per_s._replace(**{name: 6.0}))
        wishes = {each: (at_most(**{each: 200.0}), at_least(**{each: 50.0})) for each in Percentiles._fields}
        for each, (soon, fast) in wishes.items():
            by_time = RoutingPreference(first_token_ms_max_preferred=soon)
            by_rate = RoutingPreference(tokens_per_s_min_preferred=fast)
            expected = [2, 1] if each == name else [1, 2]
            for wish, slow in ((by_time, late), (by_rate, lame)):
                found = [endpoint(1, prices=prices(1, 1), pace=slow), endpoint(2, pace=steady)]
                assert ids(candidates(found, wish, NEEDS).ranked) == expected

    def test_all_limits_are_to_be_kept(self):
        wish = RoutingPreference(first_token_ms_max_preferred=at_most(p50=200.0, p99=500.0))
        paces = [
            KnownPace(Percentiles(*times))
            for times in ((100, 150, 200, 501), (201, 300, 400, 499), (200, 300, 400, 500))
        ]
        found = [endpoint(number, pace=pace) for number, pace in enumerate(paces, start=1)]
        assert ids(candidates(found, wish, NEEDS).ranked) == [3, 1, 2]

    def test_what_limits_nothing_is_no_wish(self):
        assert at_least() is None
        assert at_least(p90=0.0) is None
        assert at_most() is None
        assert at_most(p90=0.0) is not None


slugs = st.sampled_from(PROVIDERS)
figures = st.floats(1, 1_000)
percentiles = st.none() | st.builds(Percentiles, figures, figures, figures, figures)
limits = st.dictionaries(st.sampled_from(Percentiles._fields), figures)
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
        rests_until=st.sampled_from((1.0, 2.0)),
        crowded=st.booleans(),
        region=st.sampled_from(("eu-west", "us")),
        quantization=st.sampled_from(("q8_0", "fp8")),
        trust=st.sampled_from(Trust),
        data_policy=st.sampled_from(DataPolicy),
        first_token_ms=st.none() | st.floats(1, 1_000),
        tokens_per_s=st.none() | st.floats(1, 1_000),
        pace=st.builds(KnownPace, percentiles, percentiles),
        error_rate=st.floats(0, 1),
        capabilities=st.sampled_from(((), ("seed",), ("seed", "tools"))),
    ),
    max_size=8,
).map(lambda all_changes: [endpoint(number, **changes) for number, changes in enumerate(all_changes)])
wishes = st.builds(
    RoutingPreference,
    order=st.lists(slugs, max_size=3).map(tuple),
    only=st.lists(slugs, max_size=3).map(tuple),
    ignore=st.lists(slugs, max_size=2).map(tuple),
    allow_fallbacks=st.booleans(),
    sort=st.none() | st.sampled_from(Sort),
    regions=st.sampled_from(((), ("eu",), ("us", "eu"))),
    quantizations=st.sampled_from(((), (), ("fp8",))),
    trust=st.none() | st.sampled_from(Trust),
    data_policy=st.none() | st.sampled_from(DataPolicy),
    prompt_nano_usd_max=st.none() | st.integers(0, 50),
    completion_nano_usd_max=st.none() | st.integers(0, 50),
    capabilities=st.sampled_from(((), (), ("seed",), ("seed", "tools"))),
    tokens_per_s_min_preferred=limits.map(lambda given: at_least(**given)),
    first_token_ms_max_preferred=limits.map(lambda given: at_most(**given)),
)


class TestProperties:
    @given(endpoint_sets, wishes, st.randoms())
    def test_the_order_of_the_input_does_not_matter(self, endpoints, wish, random):
        shuffled = list(endpoints)
        random.shuffle(shuffled)
        assert candidates(shuffled, wish, NEEDS) == candidates(endpoints, wish, NEEDS)

    @given(endpoint_sets, wishes)
    def test_endpoints_that_rest_serve_only_when_none_else_may(self, endpoints, wish):
        routing = candidates(endpoints, wish, NEEDS)
        assert {each.quarantined for each in routing.ranked} <= {routing.is_last_resort}

    @given(endpoint_sets, wishes)
    def test_every_endpoint_is_ranked_or_rejected_once(self, endpoints, wish):
        routing = candidates(endpoints, wish, NEEDS)
        seen = ids(routing.ranked) + [each.endpoint.id.int for each in routing.rejected]
        assert sorted(seen) == ids(tuple(endpoints))

    @given(endpoint_sets, wishes)
    def test_nothing_ruled_out_is_ranked(self, endpoints, wish):
        for each in candidates(endpoints, wish, NEEDS).ranked:
            assert each.model_slug == "m"
            assert not each.crowded
            assert each.context_length >= NEEDS.tokens_min
            assert each.provider_slug not in wish.ignore
            assert not wish.only or each.provider_slug in wish.only
            assert wish.allow_fallbacks or not wish.order or each.provider_slug in wish.order
            assert not wish.regions or each.region.partition("-")[0] in wish.regions
            assert not wish.quantizations or each.quantization in wish.quantizations
            assert wish.trust is None or each.trust.reaches(wish.trust)
            assert wish.data_policy in {None, each.data_policy}
            assert set(wish.capabilities) <= set(each.capabilities)
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
