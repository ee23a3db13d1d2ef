"""What a request costs at the gateway: the price of its admission, however it is answered."""

import asyncio

import msgspec
import pytest

from raymart_core.ports import Prices
from raymart_marketplace.gateway.openai_usage import usage_of
from raymart_marketplace.gateway.quote import needs_of, quote
from raymart_marketplace.gateway.request import ChatMessage, ChatRequest, Sampling
from raymart_marketplace.metering.models import Surface

ODD = Prices(token_prompt=7, token_completion=11, token_cached=3, request=13)


def request_of(market, max_tokens: int) -> ChatRequest:
    return ChatRequest(
        model=market.slug,
        messages=(ChatMessage(role="user", content="hi"),),
        sampling=Sampling(max_tokens=max_tokens),
    )


def run(market, *, streamed: bool, max_tokens: int = 4):
    return market.inference.run(
        market.caller, request_of(market, max_tokens), surface=Surface.GRAPHQL, streamed=streamed
    )


async def lines_of(market) -> list[tuple]:
    return await market.books.fetch(
        "select tokens_prompt, tokens_completion, tokens_cached, requests_priced, price_prompt_nano_usd,"
        " price_completion_nano_usd, price_cached_nano_usd, price_request_nano_usd, customer_nano_usd, fee_nano_usd"
        " from usage_record where organization_id = %s order by id",
        market.books.organization_id,
    )


class TestCost:
    @pytest.mark.parametrize("max_tokens", [1, 4, 9])
    async def test_a_streamed_answer_costs_what_an_unstreamed_one_does(self, market, max_tokens):
        await market.books.fund(1_000_000)
        await market.add_endpoint(prices=ODD)
        for streamed in (True, False):
            events = [event async for event in run(market, streamed=streamed, max_tokens=max_tokens)]
            assert events[-1].cost.amount == 3 * 7 + events[-1].tokens_completion * 11 + 13
        first, second = await lines_of(market)
        assert first == second
        assert first[:8] == (3, max_tokens, 0, 1, 7, 11, 3, 13)

    @pytest.mark.parametrize(("claimed", "believed"), [(2, 2), (3, 3), (99, 3), (-5, 0)])
    async def test_prompt_tokens_that_the_engine_had_cached_cost_the_cached_price(
        self, market, claimed, believed
    ):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step()
            exchange.finish(cached=claimed)

        replica = await market.add_endpoint(prices=ODD)
        replica.script = script
        for streamed in (True, False):
            events = [event async for event in run(market, streamed=streamed)]
            finished = events[-1]
            assert finished.cost.amount == (3 - believed) * 7 + believed * 3 + 11 + 13
            assert (finished.tokens_prompt, finished.tokens_cached) == (3, believed)
            details = usage_of(finished, finished).prompt_tokens_details
            assert details.cached_tokens == 2 * believed
        assert [line[2] for line in await lines_of(market)] == [believed, believed]

    async def test_the_price_of_admission_is_billed_when_it_changes_in_mid_stream(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(prices=ODD, fee_basis_points=1_000)
        [endpoint] = market.directory.endpoints.values()
        answer = run(market, streamed=True)
        await anext(answer)
        dearer = Prices(token_prompt=700, token_completion=1_100, request=1_300)
        market.directory.endpoints[endpoint.id] = msgspec.structs.replace(
            endpoint, prices=dearer, fee_basis_points=9_000
        )
        async with asyncio.timeout(30):
            last = [event async for event in answer][-1]
        cost = 3 * 7 + 4 * 11 + 13
        assert last.cost.amount == cost
        [(*_, customer, fee)] = await lines_of(market)
        assert (customer, fee) == (cost, cost // 10)

    async def test_the_charge_is_within_the_quote_that_was_held(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(prices=ODD)
        bound = quote(market.rater, market.directory.live(market.slug), needs_of(request_of(market, 4)))
        last = [event async for event in run(market, streamed=False)][-1]
        assert last.cost <= bound
