"""A search leaves out what routing would, in routing's words, and what lies elsewhere, in its own."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.ranking import candidates
from raymart_marketplace.routing.route import Needs, Reason
from raymart_marketplace.routing.search import Gpu, Place, Wish, search
from raymart_marketplace.routing.toss import NO_CHANCE
from raymart_marketplace.supply.live import LiveEndpoint

MODEL = "test/model"


def endpoint(
    *, slug: str = "one", price: int = 10, running: int = 0, quarantined: bool = False
) -> LiveEndpoint:
    return LiveEndpoint(
        id=new_id(),
        node_id=new_id(),
        node_name="node",
        provider_id=new_id(),
        provider_slug=slug,
        offer_id=new_id(),
        revision_id=new_id(),
        revision_digest="sha256:0",
        modality=Modality.CHAT,
        model_slug=MODEL,
        engine="vllm",
        quantization="fp8",
        region="eu-west",
        context_length=1_000,
        prices=Prices(token_prompt=price, token_completion=price),
        fee_basis_points=0,
        capacity=4,
        running=running,
        quarantined=quarantined,
    )


def place(live: LiveEndpoint, /, **changes: Any) -> Place:
    made = Place(
        id=live.id,
        offer_id=live.offer_id,
        endpoint_id=live.id,
        provider_id=live.provider_id,
        provider_slug=live.provider_slug,
        revision_id=live.revision_id,
        revision_digest=live.revision_digest,
        model_slug=live.model_slug,
        quantization=live.quantization,
        context_length=live.context_length,
        region=live.region,
        gpus=(Gpu(model="NVIDIA H200", memory_bytes=141), Gpu(model="Tesla T4", memory_bytes=16)),
        prices=live.prices,
        unsellable="",
        live=live,
    )
    return replace(made, **changes)


def wish(**changes: Any) -> Wish:
    return Wish(**({"preference": NO_PREFERENCE} | changes))


def reasons(found: Any) -> dict[UUID, Reason]:
    return {place.id: verdict.reason for place, verdict in found.rejected}


class TestReasons:
    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({}, None),
            ({"model_slug": "other/model"}, Reason.MODEL),
            ({"regions": frozenset({"eu-west"})}, None),
            ({"regions": frozenset({"us", "eu"})}, None),
            ({"regions": frozenset({"eu-we"})}, Reason.REGION),
            ({"quantizations": frozenset({"fp8", "q8_0"})}, None),
            ({"quantizations": frozenset({"q8_0"})}, Reason.QUANTIZATION),
            ({"context_length_min": 1_000}, None),
            ({"context_length_min": 1_001}, Reason.CONTEXT),
            ({"gpu_model": "h200"}, None),
            ({"gpu_model": "H100"}, Reason.GPU_MODEL),
            ({"gpu_memory_bytes_min": 141}, None),
            ({"gpu_memory_bytes_min": 142}, Reason.GPU_MEMORY),
            # The memory must be the named card's.
            ({"gpu_model": "T4", "gpu_memory_bytes_min": 17}, Reason.GPU_MEMORY),
            ({"prices_max": {Unit.TOKEN_PROMPT: 10}}, None),
            ({"prices_max": {Unit.TOKEN_COMPLETION: 9}}, Reason.PRICE),
            ({"preference": RoutingPreference(only=("two",))}, Reason.NOT_IN_ONLY),
            ({"preference": RoutingPreference(ignore=("one",))}, Reason.IGNORED),
        ],
    )
    def test_each_condition_decides_at_its_limit(self, asked: dict[str, Any], reason: Reason | None) -> None:
        found = search([place(endpoint())], wish(**asked))
        assert [verdict.reason for _, verdict in found.rejected] == ([] if reason is None else [reason])
        assert len(found.matches) + len(found.rejected) == 1

    def test_what_cannot_be_sold_or_reached_says_so_before_its_price(self) -> None:
        live = endpoint()
        unsellable = place(live, unsellable="it asks nothing", prices=Prices(), live=None)
        offline = place(endpoint(price=99), live=None)
        asked = wish(prices_max={Unit.TOKEN_PROMPT: 10})
        found = search([unsellable, offline], asked)
        assert reasons(found) == {unsellable.id: Reason.UNSELLABLE, offline.id: Reason.OFFLINE}
        anywhere = search([unsellable, offline], replace(asked, live_only=False))
        assert reasons(anywhere) == {unsellable.id: Reason.UNSELLABLE, offline.id: Reason.PRICE}

    def test_the_same_endpoints_as_routing_in_the_same_words_and_order(self) -> None:
        """The two share their code; this holds that they go on doing so."""
        endpoints = [
            endpoint(price=30),
            endpoint(price=20, slug="two"),
            endpoint(price=20, running=2),
            endpoint(price=10, quarantined=True),
            endpoint(price=5, slug="bad"),
            endpoint(price=70),
        ]
        for sort in Sort:
            preference = RoutingPreference(ignore=("bad",), prompt_nano_usd_max=50, sort=sort)
            needs = Needs(model_slug=MODEL, tokens_prompt_max=1, tokens_completion_max=1, tokens_min=1)
            # A list is the same each time it is looked at: where a request leaves it to chance, the price decides.
            fixed = sort in {Sort.PRICE, Sort.LATENCY, Sort.THROUGHPUT, Sort.LEAST_LOADED, Sort.HEALTH}
            same = replace(preference, sort=sort if fixed else Sort.PRICE)
            routed = candidates(endpoints, same, needs, toss=NO_CHANCE)
            found = search([place(each) for each in endpoints], wish(preference=preference))
            assert [match.live for match in found.matches] == list(routed.ranked)
            assert [(rejected.live, *verdict) for rejected, verdict in found.rejected] == [
                (rejection.endpoint, rejection.reason, rejection.detail) for rejection in routed.rejected
            ]

    def test_what_is_not_live_comes_last_however_cheap(self) -> None:
        cheap, dear = place(endpoint(price=1), live=None), place(endpoint(price=50))
        found = search([cheap, dear], wish(live_only=False))
        assert found.matches == (dear, cheap)
