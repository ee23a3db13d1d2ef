"""Requests for a model that sleeps: they wait, are served by what wakes, and pay for what they were delivered only."""

import asyncio

import pytest

from raymart_marketplace.gateway import awakening
from raymart_marketplace.gateway.awakening import MarketAwakening
from raymart_marketplace.gateway.retry_after import RETRY_AFTER_S
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.planning.demand import Demands
from support.sleeping import put_to_sleep


@pytest.fixture
async def board():
    redis = make_redis("redis://127.0.0.1:1/0")  # Nobody there: this process knows its own all the same.
    yield DemandBoard(Demands(redis), gateway_id="test")
    await redis.aclose()


@pytest.fixture
async def serve(market, board):
    """A client of a gateway that waits at most so long."""

    async def serve(*, wake_timeout_s=10.0):
        waits = MarketAwakening(market.sessions, board, wake_timeout_s=wake_timeout_s)
        return await market.serve(market.make_inference(awakening=waits))

    return serve


async def waiting(board):
    return dict((await board.read()).waiting)


class TestWaiting:
    async def test_it_is_served_by_what_wakes_and_billed_like_any_other(self, market, board, serve):
        await market.books.fund(1_000_000)
        sleeps = await put_to_sleep(market.sessions, market.slug)
        client = await serve()
        asking = asyncio.create_task(market.chat(client))
        async with asyncio.timeout(30):
            while await waiting(board) != {sleeps.offer_id.hex: 1}:
                await asyncio.sleep(0.01)
        assert (await market.balance())[1] == 0, "nothing is held while it waits"
        await market.add_endpoint()
        slept = await asking
        warm = await market.chat(client)
        assert (slept.status_code, warm.status_code) == (200, 200)
        assert await waiting(board) == {}
        await market.settle()
        woken, other = await market.usage()
        assert woken == other

    async def test_not_up_in_time_it_is_refused_with_the_reason_and_when_to_come_again(
        self, market, board, serve
    ):
        await market.books.fund(1_000_000)
        await put_to_sleep(market.sessions, market.slug, cold_start_ms=4_200)
        reply = await market.chat(await serve(wake_timeout_s=0.3))
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == str(awakening.RETRY_AFTER_S)
        message = reply.json()["error"]["message"]
        assert "is asleep and was not up within 0.3 s; its last start took 4.2 s" in message
        assert await waiting(board) == {}
        await market.settle()
        assert await market.usage() == []

    async def test_a_client_that_leaves_waits_for_nothing(self, market, board, serve):
        sleeps = await put_to_sleep(market.sessions, market.slug)
        client = await serve()
        asking = asyncio.create_task(market.chat(client))
        async with asyncio.timeout(30):
            while await waiting(board) != {sleeps.offer_id.hex: 1}:
                await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(30):
            while await waiting(board):
                await asyncio.sleep(0.01)

    async def test_the_next_offer_is_woken_when_the_best_is_late(self, market, board, serve, monkeypatch):
        monkeypatch.setattr(awakening, "NEXT_AFTER_S", 0.3)
        dear = await put_to_sleep(market.sessions, market.slug, ask_nano_usd=9)
        cheap = await put_to_sleep(market.sessions, market.slug, ask_nano_usd=1)
        seen = []
        asking = asyncio.create_task(market.chat(await serve(wake_timeout_s=1.5)))
        while not asking.done():
            now = await waiting(board)
            if now and (not seen or seen[-1] != now):
                seen.append(now)
            await asyncio.sleep(0.01)
        assert seen == [{cheap.offer_id.hex: 1}, {cheap.offer_id.hex: 1, dear.offer_id.hex: 1}]
        assert (await asking).status_code == 503

    async def test_what_the_customer_rules_out_is_not_woken(self, market, board, serve):
        sleeps = await put_to_sleep(market.sessions, market.slug)
        client = await serve()
        for wish in ({"ignore": [sleeps.provider_slug]}, {"max_price": {"prompt": 0.0000001}}):
            reply = await market.chat(client, provider=wish)
            assert reply.status_code == 503
            assert "asleep" not in reply.json()["error"]["message"]
            assert reply.headers["retry-after"] == str(RETRY_AFTER_S)  # Not the time that waking takes.

    async def test_too_many_that_wait_are_refused_at_once(self, market, board, serve, monkeypatch):
        monkeypatch.setattr(awakening, "WAITING_MAX", 1)
        sleeps = await put_to_sleep(market.sessions, market.slug)
        client = await serve()
        first = asyncio.create_task(market.chat(client))
        async with asyncio.timeout(30):
            while await waiting(board) != {sleeps.offer_id.hex: 1}:
                await asyncio.sleep(0.01)
        reply = await market.chat(client)
        assert reply.status_code == 503
        assert "1 requests wait for it already" in reply.json()["error"]["message"]
        first.cancel()

    async def test_a_model_that_nobody_placed_is_refused_as_ever(self, market, board, serve):
        reply = await market.chat(await serve())
        assert reply.status_code == 503
        assert "no provider serves" in reply.json()["error"]["message"]
