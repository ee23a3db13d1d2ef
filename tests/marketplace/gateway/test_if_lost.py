"""What a running stream would be billed if its gateway died now."""

import asyncio

import pytest

from raymart_core.units import Fault


async def endless(exchange):
    exchange.prompt()
    while not exchange.gone.is_set():
        exchange.step()
        await asyncio.sleep(0.005)


class Watching:
    """The real sink, and what it was told to watch."""

    def __init__(self, sink):
        self.sink = sink
        self.watched = []

    def watch(self, running):
        self.watched.append(running)

    async def record(self, request):
        await self.sink.record(request)


@pytest.fixture
async def watching(market):
    await market.books.fund(1_000_000)
    sink = Watching(market.usage_sink)
    client = await market.serve(market.make_inference(usage_sink=sink))
    return sink, client


class TestIfLost:
    async def test_it_is_what_was_delivered_so_far_as_a_failure_of_ours(self, market, watching):
        sink, client = watching
        replica = await market.add_endpoint()
        replica.script = endless
        body = market.body(stream=True, max_tokens=500)
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            for _ in range(10):
                await anext(lines)
            [running] = sink.watched
            tokens, lost = running.tokens_delivered, running.if_lost()
        assert tokens >= 1
        assert (lost.state, lost.error_code) == ("failed", "gateway_lost")
        assert lost.usage.quantities.token_completion == tokens
        assert lost.usage.customer_amount.amount == 3 * 2 + tokens * 5
        [attempt] = lost.attempts
        assert (attempt.outcome, attempt.fault, attempt.tokens_delivered) == (
            "failed",
            Fault.PLATFORM,
            tokens,
        )
        await market.settle()
        assert running.if_lost() is None  # Its record is decided: the client left.

    async def test_what_is_not_streamed_is_not_watched(self, market, watching):
        sink, client = watching
        await market.add_endpoint()
        assert (await market.chat(client)).status_code == 200
        assert sink.watched == []
