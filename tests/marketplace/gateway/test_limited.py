"""Limits at the gateway's HTTP surface: headers on every answer, 429 that says which limit and when."""

import asyncio

import pytest
from marketplace.gateway.response_cache.test_cache import cache_of

from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.rate_limits.book import LimitBook
from raymart_marketplace.gateway.rate_limits.buckets import SharedBuckets
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.rate_limits.limits import Limits
from raymart_marketplace.gateway.shedding.queue import QueueLimits
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.shared_state import make_redis
from support.scripted_replica import ScriptedReplica


@pytest.fixture
async def serve(market, redis_server):
    """A gateway whose organizations are limited, and its limiter."""
    redis = make_redis(redis_server.url)
    await market.books.fund(10**12)
    await market.add_endpoint()

    async def make(limits: Limits, *, cached: bool = False, **queue):
        book = LimitBook(market.sessions, organization_default=limits)
        limiter = RateLimiter(book, SharedBuckets(redis))
        shedder = LoadShedder(market.directory, limits=QueueLimits(**queue))
        entrance = Entrance(shedder=shedder, limiter=limiter)
        cache = cache_of(market, redis, limiter=limiter) if cached else None
        market.inference = market.make_inference(entrance=entrance, cache=cache)
        return await market.serve(market.inference), limiter

    yield make
    await redis.aclose()


def remaining(answer, kind: str) -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{kind}"])


class TestHeaders:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_every_answer_says_what_is_left(self, market, serve, stream):
        client, _ = await serve(Limits(requests_per_minute=12, tokens_per_minute=100_000))
        first = await market.chat(client, stream=stream)
        second = await market.chat(client, stream=stream)
        assert first.headers["x-ratelimit-limit-requests"] == "12"
        assert (remaining(first, "requests"), remaining(second, "requests")) == (11, 10)
        assert 0 < remaining(first, "tokens") <= 100_000
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")

    async def test_errors_say_it_too_and_cost_a_request(self, market, serve):
        client, _ = await serve(Limits(requests_per_minute=12))
        refused = await market.chat(client, model="no/such")
        assert (refused.status_code, remaining(refused, "requests")) == (404, 11)
        malformed = await market.chat(client, max_tokens=-1)
        assert (malformed.status_code, remaining(malformed, "requests")) == (400, 11)

    async def test_strangers_are_told_nothing(self, market, serve):
        client, _ = await serve(Limits(requests_per_minute=12))
        answer = await client.post("/v1/chat/completions", json={}, headers={"authorization": "Bearer rm_no"})
        assert answer.status_code == 401
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


class TestRefusal:
    async def test_it_names_the_limit_and_when_to_come_again_and_leaves_nothing(self, market, serve):
        client, _ = await serve(Limits(requests_per_minute=2))
        codes = [(await market.chat(client)).status_code for _ in range(2)]
        refused = await market.chat(client)
        assert [*codes, refused.status_code] == [200, 200, 429]
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        assert remaining(refused, "requests") == 0
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert error["metadata"]["limit"] == {"level": "organization", "kind": "requests", "limit": 2}
        await market.settle()
        assert len(await market.requests()) == 2

    async def test_tokens_that_were_not_used_are_given_back(self, market, serve):
        """Each might use 1,000 of 1,500 and uses four and the prompt."""
        client, _ = await serve(Limits(tokens_per_minute=1_500))

        async def short(exchange):
            exchange.prompt()
            exchange.step()
            exchange.finish()

        market.replicas[0].script = short
        for _ in range(5):
            assert (await market.chat(client, max_tokens=1_000)).status_code == 200

    async def test_one_more_at_once_is_refused_until_one_has_ended(self, market, serve):
        client, _ = await serve(Limits(concurrent_requests=1))
        came, go = asyncio.Event(), asyncio.Event()

        async def slow(exchange):
            exchange.prompt()
            exchange.step()
            came.set()
            await go.wait()
            exchange.finish()

        market.replicas[0].script = slow
        running = asyncio.create_task(market.chat(client, stream=True))
        await came.wait()
        refused = await market.chat(client)
        assert refused.status_code == 429
        assert refused.json()["error"]["metadata"]["limit"]["kind"] == "concurrency"
        go.set()
        await running
        async with asyncio.timeout(30):
            while (await market.chat(client)).status_code == 429:
                await asyncio.sleep(0.05)

    async def test_what_the_queue_refuses_counts_nothing(self, market, serve):
        """Refused for our want of room, not for theirs."""
        client, limiter = await serve(Limits(requests_per_minute=12), waiting_min=1, waiting_per_slot=0)
        held, go = asyncio.Semaphore(0), asyncio.Event()

        async def slow(exchange):
            exchange.prompt()
            held.release()
            await go.wait()
            exchange.step()
            exchange.finish()

        replica = await market.stack.enter_async_context(ScriptedReplica(slow))
        market.directory.endpoints.clear()
        await market.add_endpoint(replica, capacity=1)
        asked = [asyncio.create_task(market.chat(client)) for _ in range(2)]
        for _ in asked:
            await held.acquire()
        asked.append(asyncio.create_task(market.chat(client)))
        async with asyncio.timeout(30):
            while limiter.shares_of(market.caller)[0].running < 3:
                await asyncio.sleep(0.002)
        refused = await market.chat(client)
        assert (refused.status_code, remaining(refused, "requests")) == (503, 9)
        go.set()
        await asyncio.gather(*asked)


class TestCachedAnswers:
    async def test_a_hit_counts_as_a_request_and_gives_its_place_back(self, market, serve):
        """What is kept is cheap to give, and still no way around a limit of requests."""
        client, limiter = await serve(Limits(requests_per_minute=3, concurrent_requests=1), cached=True)
        kept = {"x-raymart-cache": "300"}
        answers = []
        for _ in range(4):
            body = market.body(temperature=0)
            answers.append(await client.post("/v1/chat/completions", json=body, headers=kept))
            await market.inference.drain(timeout_s=30)
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[1].headers["x-raymart-cache"] == "hit"
        assert limiter.shares_of(market.caller)[0].running == 0
