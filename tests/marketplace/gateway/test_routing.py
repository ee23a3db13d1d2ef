"""How the gateway routes: by default by chance and price, by the customer's wish, and what it tells the directory."""

import asyncio
from collections import Counter
from uuid import UUID

import msgspec
import pytest

from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_core.wire.replica import ChatMessage
from raymart_marketplace.gateway.affinity import affinity_of
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.routing.preference import NO_PREFERENCE, Sort
from raymart_marketplace.supply.trust import DataPolicy, Trust

CHEAP = Prices(token_prompt=1, token_completion=1)


async def balanced(market, *, seed=None):
    """A gateway as it is without a setting; chance counts up from `seed`."""
    seeds = iter(range(seed or 0, 10**9, 7919))
    return await market.serve(market.make_inference(sort=Sort.BALANCED, chance=lambda: next(seeds)))


class TestDefault:
    async def test_requests_spread_and_the_cheap_get_more(self, market):
        await market.books.fund(10_000_000)
        await market.add_endpoint(provider="cheap", prices=Prices(token_prompt=2, token_completion=2))
        await market.add_endpoint(provider="dear", prices=Prices(token_prompt=4, token_completion=4))
        client = await balanced(market)
        served = Counter()
        for _ in range(60):
            served[(await market.chat(client)).headers["x-raymart-provider"]] += 1
        # Four to one is expected, 12 of 60. Ids are chance too: outside of these bounds is one run in a million.
        assert 1 <= served["dear"] <= 32, served

    async def test_the_same_chance_decides_the_same(self, market):
        await market.books.fund(10_000_000)
        for name in ("a", "b", "c"):
            await market.add_endpoint(provider=name)
        orders = []
        for _ in range(2):
            client = await balanced(market, seed=5)
            orders.append([(await market.chat(client)).headers["x-raymart-provider"] for _ in range(8)])
        assert orders[0] == orders[1]
        assert len(set(orders[0])) > 1


class TestWishes:
    @pytest.mark.parametrize(
        "wish",
        [
            {"regions": ["eu"]},
            {"quantizations": ["fp8"]},
            {"trust": "verified"},
            {"zdr": True},
            {"data_collection": "deny"},
        ],
    )
    async def test_only_who_meets_it_serves_however_cheap_the_others_are(self, market, wish):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="other", prices=CHEAP)
        await market.add_endpoint(
            provider="right", region="eu-west", quantization="fp8", trust=Trust.VERIFIED,
            data_policy=DataPolicy.NO_RETENTION,
        )  # fmt: skip
        assert (await market.chat(provider=wish)).headers["x-raymart-provider"] == "right"

    async def test_a_conversation_stays_where_it_began(self, market):
        await market.books.fund(10_000_000)
        for name in ("a", "b", "c", "d"):
            await market.add_endpoint(provider=name)
        homes = set()
        for number in range(12):
            said = [{"role": "user", "content": f"story {number}"}]
            wish = {"provider": {"sort": "affinity"}}
            first = (await market.chat(messages=said, **wish)).headers["x-raymart-provider"]
            said += [{"role": "assistant", "content": "tok"}, {"role": "user", "content": "go on"}]
            assert (await market.chat(messages=said, **wish)).headers["x-raymart-provider"] == first
            homes.add(first)
        assert len(homes) > 1


class TestReports:
    async def test_an_answer_tells_how_it_was_served(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        await market.chat()
        [served] = market.directory.served
        assert served.tokens == 4
        assert 0 < served.first_token_s <= served.duration_s < 5

    async def test_an_answer_in_one_piece_tells_nothing_of_its_first_token(self, market):
        """Its steps are collected at the replica; but one in 32 comes in steps, so that somebody knows."""
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint(first_token_ms=50.0)
        request = parse_chat(msgspec.json.encode(market.body())).request
        for low_bits in (0, 1):
            request_id = UUID(int=new_id().int & ~31 | low_bits)
            async for _ in market.inference.run(
                market.caller, request, surface=Surface.REST, streamed=False, request_id=request_id
            ):
                pass
        in_steps, whole = market.directory.served
        assert [exchange.request.whole for exchange in replica.exchanges] == [False, True]
        assert in_steps.first_token_s is not None
        assert (whole.first_token_s, whole.tokens) == (None, 4)

    async def test_who_leaves_says_nothing_about_the_endpoint(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()

        async def silent(exchange):
            exchange.prompt()
            exchange.step()
            await exchange.gone.wait()

        replica.script = silent
        async with market.client.stream(
            "POST", "/v1/chat/completions", json=market.body(stream=True)
        ) as response:
            await anext(response.aiter_lines())
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.settle()
        assert (market.directory.served, market.directory.failures) == ([], [])


class TestAffinity:
    def request(self, *messages, model="m"):
        return ChatRequest(
            model=model,
            messages=tuple(ChatMessage(role=role, content=content) for role, content in messages),
            sampling=Sampling(),
            routing=NO_PREFERENCE,
        )

    def test_it_is_of_what_comes_before_the_first_answer(self):
        one = self.request(("system", "be brief"), ("user", "hi"))
        later = self.request(("system", "be brief"), ("user", "hi"), ("assistant", "yes"), ("user", "more"))
        assert affinity_of(one, UUID(int=1)) == affinity_of(later, UUID(int=1))

    def test_other_beginnings_tenants_and_models_are_other_conversations(self):
        one = self.request(("user", "hi"))
        digests = {
            affinity_of(one, UUID(int=1)),
            affinity_of(one, UUID(int=2)),
            affinity_of(self.request(("user", "ho")), UUID(int=1)),
            affinity_of(self.request(("system", "hi")), UUID(int=1)),
            affinity_of(msgspec.structs.replace(one, model="n"), UUID(int=1)),
        }
        assert len(digests) == 5
        assert all(0 <= digest < 1 << 64 for digest in digests)
