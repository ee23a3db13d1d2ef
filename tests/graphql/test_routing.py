"""Offers by what is looked for, and the way of a request: what the gateway would do, before it does it."""

from typing import Any

import pytest

from raymart_core.ids import Prefix, show
from support.api_server import Api, Seller, Tenant
from support.scripted_replica import ScriptedReplica
from support.statements import statements_of

SEARCH = """
query ($filter: OfferFilter, $sort: ProviderSort = PRICE) {
  offers(filter: $filter, sort: $sort) { nodes { ...place } pageInfo { hasNextPage } }
  offerSearch(filter: $filter, sort: $sort) {
    considered
    matches { nodes { endpointId } }
    rejected { nodes { reason detail place { offer { id } live } } }
  }
}
fragment place on OfferPlace {
  endpointId modelSlug region live capacity running quarantined
  prices { unit price { amount } } gpus { model memoryBytes }
  offer { id windows { days } } provider { slug } revision { quantization model { slug } }
}
"""
OFFERS = SEARCH.partition("  offerSearch")[0] + "}\n" + SEARCH[SEARCH.index("fragment place") :]
"""Without what was left out: of that there may be any number, of other tests too, and it is loaded when it is known."""
EXPLAIN = """
query ($input: ExplainRouteInput!) {
  explainRoute(input: $input) {
    modelSlug tokensPromptMax hold { amount } sort seed isLastResort
    refusal { code field message reasons }
    ranked { nodes { position tried score quote { amount } endpoint {
      id breaker trust dataPolicy figures {
        firstTokenMs interTokenMs tokensPerSecond errorRate observations
        firstTokenMsPercentiles { p50 p75 p90 p99 } tokensPerSecondPercentiles { p50 p75 p90 p99 }
      }
      provider { slug dataPolicy }
    } } }
    rejected { nodes { endpointId live reason detail provider { slug } } }
  }
}
"""
ASK = """
mutation ($input: CreateChatCompletionInput!) {
  createChatCompletion(input: $input) { completion { text cost { amount } } userErrors { code message reasons } }
}
"""


async def explained(api: Api, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await api(EXPLAIN, input=given)).data["explainRoute"]
    return found


async def said(api: Api, seller: Seller, policy: str) -> dict[str, Any]:
    mutation = """mutation ($input: SetDataPolicyInput!) {
        setDataPolicy(input: $input) { provider { slug dataPolicy } userErrors { message } } }"""
    given = {"providerId": show(Prefix.PROVIDER, seller.provider_id), "dataPolicy": policy}
    payload = (await api(mutation, seller.tenant.owner, input=given)).data["setDataPolicy"]
    assert payload["userErrors"] == []
    found: dict[str, Any] = payload["provider"]
    return found


class TestOffers:
    async def test_live_offer_is_found_with_its_price_of_this_moment(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        data = (await api(SEARCH, filter={"model": seller.model_slug})).data
        [place] = data["offers"]["nodes"]
        assert place["live"]
        assert place["capacity"] == 4
        assert place["region"] == "local"
        assert place["offer"]["id"] == show(Prefix.OFFER, seller.offer_id)
        prices = {each["unit"]: each["price"]["amount"] for each in place["prices"]}
        assert prices["TOKEN_PROMPT"] == "0.000000100"
        assert prices["TOKEN_COMPLETION"] == "0.000000200"
        assert data["offerSearch"] == {
            "considered": 1,
            "matches": {"nodes": [{"endpointId": place["endpointId"]}]},
            "rejected": {"nodes": []},
        }

    async def test_what_is_left_out_says_why(self, api: Api, seller: Seller) -> None:
        conditions: dict[str, dict[str, Any]] = {
            "OFFLINE": {},
            "PRICE": {"maxPrices": [{"unit": "TOKEN_PROMPT", "price": "0.000000099"}], "liveOnly": False},
            "CONTEXT": {"contextLengthMin": 1025, "liveOnly": False},
            "GPU_MODEL": {"gpuModel": "H200", "regions": [], "liveOnly": False},
            "IGNORED": {"ignore": [seller.provider_slug], "liveOnly": False},
            "REGION": {"regions": ["mars"], "liveOnly": False},
        }
        for reason, filter_ in conditions.items():
            data = (await api(SEARCH, filter=filter_ | {"model": seller.model_slug})).data
            [rejected] = data["offerSearch"]["rejected"]["nodes"]
            assert rejected["reason"] == reason, rejected
            assert rejected["detail"]
            assert data["offers"]["nodes"] == []

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"contextLengthMin": 0}, "context_length_min"),
            ({"only": ["x"] * 101}, "only"),
            ({"gpuModel": "x" * 201}, "gpu_model"),
        ],
    )
    async def test_filter_out_of_range_is_refused(self, api: Api, given: dict[str, Any], field: str) -> None:
        answer = await api(SEARCH, filter=given)
        assert {error["extensions"]["code"] for error in answer.errors} == {"BAD_USER_INPUT"}, field

    async def test_statements_do_not_grow_with_the_offers(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        filter_ = {"liveOnly": False}
        one = await statements_of(api, OFFERS, customer.owner, filter=filter_ | {"model": seller.model_slug})
        for _ in range(3):
            await api.seller()
        assert await statements_of(api, OFFERS, customer.owner, filter=filter_) == one

    async def test_pages_follow_the_rank(self, api: Api, seller: Seller) -> None:
        query = """query ($after: String) { offers(filter: {liveOnly: false}, first: 2, after: $after) {
            nodes { offer { id } } pageInfo { endCursor hasNextPage } } }"""
        await api.seller()
        await api.seller()
        seen: list[str] = []
        after = None
        while True:
            page = (await api(query, after=after)).data["offers"]
            seen += [node["offer"]["id"] for node in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert len(seen) == len(set(seen)) >= 3


class TestExplainRoute:
    async def test_it_says_what_the_gateway_then_does(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        chat = {
            "model": seller.model_slug,
            "messages": [{"role": "USER", "content": "hello"}],
            "maxTokens": 7,
        }
        route = await explained(api, **chat)
        assert route["refusal"] is None
        [choice] = route["ranked"]["nodes"]
        assert choice["tried"]
        assert choice["endpoint"]["provider"]["slug"] == seller.provider_slug
        # 5 bytes, 16 a message and 32 for the template; 100 and 200 nano-USD.
        assert route["tokensPromptMax"] == 53
        assert route["hold"]["amount"] == choice["quote"]["amount"] == "0.000006700"
        served = (await api(ASK, customer.owner, input=chat)).data["createChatCompletion"]
        assert served["userErrors"] == []

    async def test_refusal_is_word_for_word_the_gateways(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        wishes: list[dict[str, Any]] = [
            {"provider": {"only": ["nobody"]}},
            {"provider": {"maxPrice": {"promptPerMillion": "0.01"}}},
            {"maxTokens": 5_000},
            {"model": "no/such-model"},
        ]
        for wish in wishes:
            chat = {
                "model": seller.model_slug,
                "messages": [{"role": "USER", "content": "hello"}],
            } | wish
            refusal = (await explained(api, **chat))["refusal"]
            served = (await api(ASK, customer.owner, input=chat)).data["createChatCompletion"]
            [error] = served["userErrors"]
            assert {key: refusal[key] for key in error} == error

    async def test_every_endpoint_is_ranked_or_rejected_with_a_reason(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        wish = {"only": ["nobody"]}
        route = await explained(api, model=seller.model_slug, tokensPromptMax=10, provider=wish)
        assert route["ranked"]["nodes"] == []
        assert route["hold"] is None
        [rejected] = route["rejected"]["nodes"]
        assert (rejected["reason"], rejected["live"]) == ("NOT_IN_ONLY", True)
        assert rejected["detail"] in route["refusal"]["reasons"][0]
        api.retire(seller)
        try:
            route = await explained(api, model=seller.model_slug, tokensPromptMax=10)
            [rejected] = route["rejected"]["nodes"]
            assert (rejected["reason"], rejected["live"]) == ("OFFLINE", False)
            assert route["refusal"]["code"] in {
                "NO_ENDPOINT",
                "MODEL_NOT_FOUND",
            }  # The catalog's cache may lag.
        finally:
            await api.serve(seller, replica)

    async def test_strategy_and_chance_are_told_and_can_be_given_again(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        one = await explained(api, model=seller.model_slug, tokensPromptMax=10)
        assert (one["sort"], one["isLastResort"]) == ("BALANCED", False)
        again = await explained(api, model=seller.model_slug, tokensPromptMax=10, seed=one["seed"])
        assert again == one
        other = await explained(api, model=seller.model_slug, tokensPromptMax=10)
        assert other["ranked"]["nodes"][0]["score"] != one["ranked"]["nodes"][0]["score"]
        wish = {"sort": "PRICE"}
        cheapest = await explained(
            api, model=seller.model_slug, tokensPromptMax=10, maxTokens=7, provider=wish
        )
        assert cheapest["sort"] == "PRICE"
        assert cheapest["ranked"]["nodes"][0]["score"] == 10 * 100 + 7 * 200
        for seed in ("", "xyz", "0" * 17):
            answer = await api(
                EXPLAIN, input={"model": seller.model_slug, "tokensPromptMax": 1, "seed": seed}
            )
            assert answer.code == "BAD_USER_INPUT"

    async def test_an_endpoint_shows_how_it_does(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        messages = [{"role": "USER", "content": "hello"}]
        await api(
            ASK, customer.owner, input={"model": seller.model_slug, "messages": messages, "maxTokens": 7}
        )
        [choice] = (await explained(api, model=seller.model_slug, tokensPromptMax=10))["ranked"]["nodes"]
        endpoint = choice["endpoint"]
        assert (endpoint["breaker"], endpoint["trust"]) == ("CLOSED", "PROBED"), (
            "it is in its provider's own pool"
        )
        figures = endpoint["figures"]
        assert figures["firstTokenMs"] > 0
        assert figures["tokensPerSecond"] > 0
        assert figures["errorRate"] == 0
        assert figures["observations"] > 0.9
        times, rates = figures["firstTokenMsPercentiles"], figures["tokensPerSecondPercentiles"]
        assert 0 < times["p50"] <= times["p75"] <= times["p90"] <= times["p99"]
        assert rates["p50"] >= rates["p75"] >= rates["p90"] >= rates["p99"] > 0

    async def test_conditions_on_who_serves_leave_out_by_name(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        wishes = {
            "REGION": {"regions": ["mars"]},
            "QUANTIZATION": {"quantizations": ["fp8"]},
            "DATA_POLICY": {"dataPolicy": "NO_RETENTION"},
            "TRUST": {"trust": "VERIFIED"},
        }
        for reason, wish in wishes.items():
            route = await explained(api, model=seller.model_slug, tokensPromptMax=10, provider=wish)
            [rejected] = route["rejected"]["nodes"]
            assert rejected["reason"] == reason
            assert rejected["detail"] in route["refusal"]["reasons"][0]
        met = {"regions": ["local"], "trust": "PROBED", "dataPolicy": "UNSTATED"}
        assert (await explained(api, model=seller.model_slug, tokensPromptMax=10, provider=met))["ranked"][
            "nodes"
        ]

    async def test_what_is_required_must_be_promised(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        wish = {"requireParameters": True}
        asked = {
            "model": seller.model_slug,
            "messages": [{"role": "USER", "content": "hi"}],
            "provider": wish,
        }
        good = await api(ASK, customer.owner, input=asked)
        assert good.data["createChatCompletion"]["userErrors"] == []
        refused = await api(ASK, customer.owner, input={**asked, "seed": "7"})
        [error] = refused.data["createChatCompletion"]["userErrors"]
        assert "does not promise seed" in error["reasons"][0]

    async def test_a_suffix_and_a_preferred_pace_are_understood(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        cheap = await explained(api, model=f"{seller.model_slug}:floor", tokensPromptMax=10)
        assert cheap["sort"] == "PRICE"
        assert len(cheap["ranked"]["nodes"]) == 1
        wish = {"tokensPerSecondMinPreferred": 1e9, "firstTokenMsMaxPreferred": 0.0}
        slow = await explained(api, model=seller.model_slug, tokensPromptMax=10, provider=wish)
        assert len(slow["ranked"]["nodes"]) == 1, "a preference rules nobody out"
        wish = {
            "tokensPerSecondPercentilesMinPreferred": {"p99": 1e9},
            "firstTokenMsPercentilesMaxPreferred": {"p50": 0.0, "p90": 1.0},
        }
        slow = await explained(api, model=seller.model_slug, tokensPromptMax=10, provider=wish)
        assert len(slow["ranked"]["nodes"]) == 1, "nor do percentiles"
        for bad in (
            {"tokensPerSecondMinPreferred": -1.0},
            {"firstTokenMsPercentilesMaxPreferred": {"p75": -1.0}},
            {"firstTokenMsMaxPreferred": 1.0, "firstTokenMsPercentilesMaxPreferred": {"p75": 1.0}},
        ):
            asked = {"model": seller.model_slug, "tokensPromptMax": 1, "provider": bad}
            assert (await api(EXPLAIN, input=asked)).code == "BAD_USER_INPUT"

    async def test_a_providers_word_on_data_counts_from_the_next_request_on(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        wish = {"dataPolicy": "NO_RETENTION"}
        asked = {"model": seller.model_slug, "tokensPromptMax": 10, "provider": wish}
        assert (await explained(api, **asked))["ranked"]["nodes"] == []
        try:
            provider = await said(api, seller, "NO_RETENTION")
            assert provider == {"slug": seller.provider_slug, "dataPolicy": "NO_RETENTION"}
            [choice] = (await explained(api, **asked))["ranked"]["nodes"]
            assert choice["endpoint"]["dataPolicy"] == "NO_RETENTION"
            assert choice["endpoint"]["provider"]["dataPolicy"] == "NO_RETENTION"
        finally:
            await said(api, seller, "UNSTATED")

    async def test_it_needs_a_conversation_or_a_bound(self, api: Api, seller: Seller) -> None:
        assert (await api(EXPLAIN, input={"model": seller.model_slug})).code == "BAD_USER_INPUT"
