"""Prices over the API: published by administrators, asked by providers, seen by everybody at once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.pricing.book import database_now
from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Person, Seller, Tenant
from support.scripted_replica import ScriptedReplica

PUBLISH = """mutation ($input: PublishRateCardInput!) { publishRateCard(input: $input) {
  rateCard { version state effectiveFrom effectiveTo prices { unit price { amount } } model { slug } revision { digest } }
  userErrors { code field message } } }"""
CAP = """mutation ($input: SetPriceCapInput!) { setPriceCap(input: $input) {
  priceCap { unit max { amount } reason model { slug } effectiveTo } userErrors { code field message } } }"""
FEE = """mutation ($input: SetFeeScheduleInput!) { setFeeSchedule(input: $input) {
  feeSchedule { version basisPoints provider { slug } model { slug } } userErrors { code field message } } }"""
ASKS = """mutation ($input: SetOfferAsksInput!) { setOfferAsks(input: $input) {
  offer { asks { prompt { amount } completion { amount } } unitAsks { unit price { amount } } }
  userErrors { code field message } } }"""
WINDOWS = """mutation ($input: SetOfferWindowsInput!) { setOfferWindows(input: $input) {
  offer { windows { days startsMinute endsMinute basisPoints asks { unit price { amount } } } }
  userErrors { code field message } } }"""
FLOOR = """mutation ($input: SetOfferFloorInput!) { setOfferFloor(input: $input) {
  offer { floors { unit price { amount } } unsellableReason } userErrors { code field message } } }"""
MODEL = """query ($slug: String!) { model(slug: $slug) {
  rateCards { nodes { version state } } currentPrices { unit price { amount } }
  lowestPrices { prompt { amount } } lowestUnitPrices { unit price { amount } }
  liveEndpoints { nodes { prices { prompt { amount } } unitPrices { unit price { amount } } } }
  offers { nodes { asks { prompt { amount } } currentPrice { sellable until prices { unit price { amount } } } } } } }"""
QUOTE = """query ($model: String!, $prompt: Int!, $completion: Int!) {
  quoteRequest(model: $model, tokensPromptMax: $prompt, tokensCompletionMax: $completion) {
    endpoints { nodes { id amount { amount } provider { slug }
      lines { unit quantity price { amount } amount { amount } } } } } }"""
CHAT = """mutation ($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) {
  completion { cost { amount } usage { tokensPrompt tokensCompletion } } userErrors { code message } } }"""
USAGE = """query ($id: ID!) { organization(id: $id) { usageRecords { nodes {
  amount { amount } feeAmount { amount } providerAmount { amount }
  lines { unit quantity price { amount } amount { amount } } } } } }"""


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return (await api.tenant(OrganizationKind.PLATFORM)).owner


def dollars(nano_usd: int) -> str:
    return f"{Decimal(nano_usd).scaleb(-9):.9f}"


def priced(**nano_usd: int) -> list[dict[str, str]]:
    return [{"unit": unit.upper(), "price": dollars(amount)} for unit, amount in nano_usd.items()]


def shown(given: list[dict[str, Any]]) -> dict[str, int]:
    """Units and prices as nano-USD."""
    return {each["unit"]: int(Decimal(each["price"]["amount"]).scaleb(9)) for each in given}


async def change(api: Api, query: str, person: Person, **given: Any) -> dict[str, Any]:
    [payload] = (await api(query, person, input=given)).data.values()
    return payload


async def model_of(api: Api, seller: Seller) -> dict[str, Any]:
    return (await api(MODEL, slug=seller.model_slug)).data["model"]


def model_id(seller: Seller) -> str:
    return show(Prefix.MODEL, seller.model_id)


def offer_id(seller: Seller) -> str:
    return show(Prefix.OFFER, seller.offer_id)


class TestRateCards:
    async def test_a_published_card_is_seen_by_everybody(
        self, api: Api, admin: Person, seller: Seller
    ) -> None:
        made = await change(
            api,
            PUBLISH,
            admin,
            modelId=model_id(seller),
            prices=priced(token_prompt=50, token_completion=150),
        )
        assert made["userErrors"] == []
        card = made["rateCard"]
        assert (card["version"], card["state"], card["effectiveTo"]) == (1, "PUBLISHED", None)
        assert (card["model"], card["revision"]) == ({"slug": seller.model_slug}, None)
        assert shown(card["prices"]) == {"TOKEN_PROMPT": 50, "TOKEN_COMPLETION": 150}
        await change(api, PUBLISH, admin, modelId=model_id(seller), prices=priced(token_prompt=60))
        found = await model_of(api, seller)
        assert found["rateCards"]["nodes"] == [
            {"version": 2, "state": "PUBLISHED"},
            {"version": 1, "state": "RETIRED"},
        ]
        assert shown(found["currentPrices"]) == {"TOKEN_PROMPT": 60}

    async def test_an_offer_without_asks_sells_at_the_card_from_the_next_request_on(
        self, api: Api, admin: Person, seller: Seller, replica: ScriptedReplica, customer: Tenant
    ) -> None:
        nothing = [{"unit": "TOKEN_PROMPT"}, {"unit": "TOKEN_COMPLETION"}]
        made = await change(api, ASKS, seller.tenant.owner, offerId=offer_id(seller), asks=nothing)
        assert made["offer"]["unitAsks"] == []
        found = await model_of(api, seller)
        assert found["liveEndpoints"]["nodes"] == []  # Not sold at a price that nobody has set.
        assert (found["lowestPrices"], found["lowestUnitPrices"]) == (None, [])
        [offer] = found["offers"]["nodes"]
        assert (offer["currentPrice"]["sellable"], offer["currentPrice"]["prices"]) == (False, [])
        await change(
            api, PUBLISH, admin, modelId=model_id(seller),
            prices=priced(token_prompt=3, token_completion=7, request=1_000),
        )  # fmt: skip
        found = await model_of(api, seller)
        [endpoint] = found["liveEndpoints"]["nodes"]
        expected = {"TOKEN_PROMPT": 3, "TOKEN_COMPLETION": 7, "TOKEN_CACHED": 3, "REQUEST": 1_000}
        assert shown(endpoint["unitPrices"]) == expected
        [offer] = found["offers"]["nodes"]
        assert shown(offer["currentPrice"]["prices"]) == expected
        assert offer["asks"]["prompt"]["amount"] == dollars(3)
        assert found["lowestPrices"]["prompt"]["amount"] == dollars(3)
        assert shown(found["lowestUnitPrices"]) == {
            "TOKEN_PROMPT": 3,
            "TOKEN_COMPLETION": 7,
            "REQUEST": 1_000,
        }

        await api.credit(customer)
        chat = {"model": seller.model_slug, "messages": [{"role": "USER", "content": "hi"}], "maxTokens": 2}
        answer = (await change(api, CHAT, customer.owner, **chat))["completion"]
        used = answer["usage"]
        cost = 3 * used["tokensPrompt"] + 7 * used["tokensCompletion"] + 1_000
        assert answer["cost"]["amount"] == dollars(cost)
        [record] = (await api(USAGE, customer.owner, id=customer.id)).data["organization"]["usageRecords"][
            "nodes"
        ]
        assert record["amount"]["amount"] == dollars(cost)
        assert [(line["unit"], line["quantity"], line["amount"]["amount"]) for line in record["lines"]] == [
            ("TOKEN_PROMPT", str(used["tokensPrompt"]), dollars(3 * used["tokensPrompt"])),
            ("TOKEN_COMPLETION", str(used["tokensCompletion"]), dollars(7 * used["tokensCompletion"])),
            ("REQUEST", "1", dollars(1_000)),
        ]

    async def test_past_starts_and_prices_named_twice_are_user_errors(
        self, api: Api, admin: Person, seller: Seller
    ) -> None:
        async with session_scope(api.services.sessions) as session:
            past = (await database_now(session) - timedelta(hours=1)).isoformat()
        given = {"modelId": model_id(seller), "prices": priced(request=1)}
        [error] = (await change(api, PUBLISH, admin, **given, effectiveFrom=past))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "effectiveFrom"])
        twice = priced(request=1) + priced(request=2)
        [error] = (await change(api, PUBLISH, admin, **(given | {"prices": twice})))["userErrors"]
        assert error["message"] == "request is named twice; give it one price"

    @pytest.mark.parametrize("price", ["-1", "0.0000000001", "1.000000001", "9" * 30])
    async def test_what_is_no_price_is_a_user_error(
        self, api: Api, admin: Person, seller: Seller, price: str
    ) -> None:
        prices = [{"unit": "REQUEST", "price": price}]
        [error] = (await change(api, PUBLISH, admin, modelId=model_id(seller), prices=prices))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "prices"])

    @pytest.mark.parametrize("price", [0.5, "NaN", "Infinity", "", True, {"amount": "1", "currency": "USDC"}])
    async def test_floats_and_other_currencies_are_refused_by_the_type(
        self, api: Api, admin: Person, seller: Seller, price: object
    ) -> None:
        given = {"modelId": model_id(seller), "prices": [{"unit": "REQUEST", "price": price}]}
        assert (await api(PUBLISH, admin, input=given)).code == "BAD_USER_INPUT"

    async def test_a_retired_card_ends_once(self, api: Api, admin: Person, seller: Seller) -> None:
        await change(api, PUBLISH, admin, modelId=model_id(seller), prices=priced(request=1))
        retire = """mutation ($input: RetireRateCardInput!) { retireRateCard(input: $input) {
          rateCard { state effectiveTo } userErrors { code field } } }"""
        ends = [
            (await change(api, retire, admin, modelId=model_id(seller), version=1))["rateCard"]["effectiveTo"]
            for _ in range(2)
        ]
        assert ends[0] == ends[1] is not None
        assert (await model_of(api, seller))["currentPrices"] == []
        [error] = (await change(api, retire, admin, modelId=model_id(seller), version=2))["userErrors"]
        assert error == {"code": "NOT_FOUND", "field": ["input", "version"]}


class TestCapsAndFees:
    async def test_a_cap_lowers_the_price_and_refuses_asks_above_it(
        self, api: Api, admin: Person, seller: Seller, replica: ScriptedReplica
    ) -> None:
        given = {"modelId": model_id(seller), "unit": "TOKEN_PROMPT", "reason": "abuse"}
        made = await change(api, CAP, admin, **given, max=dollars(ASK_PROMPT - 1))
        assert made["priceCap"]["max"]["amount"] == dollars(ASK_PROMPT - 1)
        assert made["priceCap"]["model"] == {"slug": seller.model_slug}
        [endpoint] = (await model_of(api, seller))["liveEndpoints"]["nodes"]
        assert endpoint["prices"]["prompt"]["amount"] == dollars(ASK_PROMPT - 1)
        refused = await change(
            api, ASKS, seller.tenant.owner, offerId=offer_id(seller), asks=priced(token_prompt=ASK_PROMPT)
        )
        [error] = refused["userErrors"]
        assert error["message"] == (
            f"the ask of {ASK_PROMPT} nano-USD for token.prompt is above the cap of {ASK_PROMPT - 1}; "
            f"ask {ASK_PROMPT - 1} at most"
        )
        assert (await change(api, CAP, admin, **given, max=None))["priceCap"] is None
        [endpoint] = (await model_of(api, seller))["liveEndpoints"]["nodes"]
        assert endpoint["prices"]["prompt"]["amount"] == dollars(ASK_PROMPT)
        caps = (await api("{ priceCaps(first: 5) { nodes { reason effectiveTo } } }", admin)).data[
            "priceCaps"
        ]
        assert caps["nodes"][0]["reason"] == "abuse"
        assert caps["nodes"][0]["effectiveTo"] is not None

    async def test_a_cap_below_the_floor_takes_the_offer_out_and_its_owner_is_told_why(
        self, api: Api, admin: Person, seller: Seller, replica: ScriptedReplica
    ) -> None:
        floors = priced(token_completion=ASK_COMPLETION)
        made = await change(api, FLOOR, seller.tenant.owner, offerId=offer_id(seller), floors=floors)
        assert shown(made["offer"]["floors"]) == {"TOKEN_COMPLETION": ASK_COMPLETION}
        assert made["offer"]["unsellableReason"] is None
        given = {"modelId": model_id(seller), "unit": "TOKEN_COMPLETION", "reason": "a test"}
        await change(api, CAP, admin, **given, max=dollars(ASK_COMPLETION - 1))
        assert (await model_of(api, seller))["liveEndpoints"]["nodes"] == []
        query = "query ($id: ID!) { node(id: $id) { ... on Offer { unsellableReason } } }"
        data = (await api(query, seller.tenant.owner, id=offer_id(seller))).data
        assert data["node"]["unsellableReason"] == (
            f"its floor for token.completion is {ASK_COMPLETION} nano-USD, above the cap of {ASK_COMPLETION - 1}"
        )

    async def test_a_fee_schedule_splits_the_next_charge(
        self, api: Api, admin: Person, seller: Seller, replica: ScriptedReplica, customer: Tenant
    ) -> None:
        made = await change(api, FEE, admin, providerId=seller.id, basisPoints=2_500, reason="a deal")
        assert made["feeSchedule"]["basisPoints"] == 2_500
        assert made["feeSchedule"]["provider"] == {"slug": seller.provider_slug}
        await api.credit(customer)
        chat = {"model": seller.model_slug, "messages": [{"role": "USER", "content": "hi"}], "maxTokens": 3}
        await change(api, CHAT, customer.owner, **chat)
        [record] = (await api(USAGE, customer.owner, id=customer.id)).data["organization"]["usageRecords"][
            "nodes"
        ]
        amount = int(Decimal(record["amount"]["amount"]).scaleb(9))
        assert record["feeAmount"]["amount"] == dollars(amount * 2_500 // 10_000)
        [error] = (await change(api, FEE, admin, basisPoints=10_001, reason="x"))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "basisPoints"])


class TestOffer:
    async def test_asks_by_unit_keep_what_is_not_named(self, api: Api, seller: Seller) -> None:
        owner = seller.tenant.owner
        made = await change(
            api, ASKS, owner, offerId=offer_id(seller), asks=priced(request=9, token_cached=1)
        )
        assert shown(made["offer"]["unitAsks"]) == {
            "TOKEN_PROMPT": ASK_PROMPT, "TOKEN_COMPLETION": ASK_COMPLETION, "TOKEN_CACHED": 1, "REQUEST": 9,
        }  # fmt: skip
        [error] = (
            await change(api, ASKS, owner, offerId=offer_id(seller), prompt="0", asks=priced(token_prompt=1))
        )["userErrors"]
        assert error["field"] == ["input", "prompt"]
        [error] = (await change(api, ASKS, owner, offerId=offer_id(seller)))["userErrors"]
        assert error["message"] == "name the price of one unit at least"

    async def test_windows_price_the_endpoint_in_their_hours(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        owner = seller.tenant.owner
        week = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
        half = {"days": week, "startsMinute": 0, "endsMinute": 1440, "basisPoints": 5_000}
        made = await change(api, WINDOWS, owner, offerId=offer_id(seller), windows=[half])
        assert made["offer"]["windows"] == [half | {"asks": []}]
        [endpoint] = (await model_of(api, seller))["liveEndpoints"]["nodes"]
        assert endpoint["prices"]["prompt"]["amount"] == dollars(ASK_PROMPT // 2)
        night = {"days": ["FRIDAY"], "startsMinute": 1320, "endsMinute": 360, "asks": priced(request=1)}
        [error] = (await change(api, WINDOWS, owner, offerId=offer_id(seller), windows=[half, night]))[
            "userErrors"
        ]
        assert error["field"] == ["input", "windows", "1"]
        assert "overlaps" in error["message"]
        await change(api, WINDOWS, owner, offerId=offer_id(seller), windows=[])
        [endpoint] = (await model_of(api, seller))["liveEndpoints"]["nodes"]
        assert endpoint["prices"]["prompt"]["amount"] == dollars(ASK_PROMPT)

    async def test_an_ask_below_the_floor_is_a_user_error(self, api: Api, seller: Seller) -> None:
        owner = seller.tenant.owner
        await change(api, FLOOR, owner, offerId=offer_id(seller), floors=priced(token_prompt=ASK_PROMPT))
        lower = priced(token_prompt=ASK_PROMPT - 1)
        [error] = (await change(api, ASKS, owner, offerId=offer_id(seller), asks=lower))["userErrors"]
        assert "below the offer's floor" in error["message"]


class TestQuote:
    async def test_the_bound_of_each_endpoint_is_the_sum_of_its_lines(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        data = (await api(QUOTE, model=seller.model_slug, prompt=10, completion=20)).data
        [quote] = data["quoteRequest"]["endpoints"]["nodes"]
        assert quote["amount"]["amount"] == dollars(10 * ASK_PROMPT + 20 * ASK_COMPLETION)
        assert quote["provider"] == {"slug": seller.provider_slug}
        assert [(line["unit"], line["quantity"], line["amount"]["amount"]) for line in quote["lines"]] == [
            ("TOKEN_PROMPT", "10", dollars(10 * ASK_PROMPT)),
            ("TOKEN_COMPLETION", "20", dollars(20 * ASK_COMPLETION)),
        ]

    async def test_pictures_are_quoted_by_their_pixel_steps(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        step = [{"unit": "IMAGE_MEGAPIXEL_STEP", "price": dollars(2_000)}]
        await change(api, ASKS, seller.tenant.owner, offerId=offer_id(seller), asks=step)
        query = QUOTE.replace("$prompt: Int!, $completion: Int!", "$steps: BigInt!").replace(
            "tokensPromptMax: $prompt, tokensCompletionMax: $completion", "pixelStepsMax: $steps"
        )
        # Two pictures of 64 x 64 in 20 steps; 327.68 nano-USD are rounded down.
        data = (await api(query, model=seller.model_slug, steps=str(2 * 64 * 64 * 20))).data
        [quote] = data["quoteRequest"]["endpoints"]["nodes"]
        assert [(line["unit"], line["quantity"], line["amount"]["amount"]) for line in quote["lines"]] == [
            ("IMAGE_MEGAPIXEL_STEP", "163840", dollars(327)),
        ]
        refused = await api(query, model=seller.model_slug, steps=str(4_194_304 * 150 * 8 + 1))
        assert refused.code == "BAD_USER_INPUT"

    async def test_a_model_that_nobody_serves_has_no_quotes(self, api: Api) -> None:
        data = (await api(QUOTE, model="nobody/serves-this", prompt=1, completion=1)).data
        assert data == {"quoteRequest": {"endpoints": {"nodes": []}}}

    @pytest.mark.parametrize("tokens", [-1, 10_000_001])
    async def test_bounds_out_of_range_are_refused(self, api: Api, seller: Seller, tokens: int) -> None:
        answer = await api(QUOTE, model=seller.model_slug, prompt=tokens, completion=1)
        assert answer.code == "BAD_USER_INPUT"
