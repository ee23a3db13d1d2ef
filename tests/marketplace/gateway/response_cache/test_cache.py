"""The response cache through the gateway: what is the same is given again, billed at its share, and nobody else's."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.rate_limits.buckets import SharedBuckets
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.rate_limits.limits import Level, Limits
from raymart_marketplace.gateway.response_cache import AnswerStore, ResponseCache, forget_answers
from raymart_marketplace.gateway.response_cache.cache import Visit
from raymart_marketplace.gateway.response_cache.key import request_digest
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.shared_state import make_redis
from support.gateway_market import PRICES, gateway_market

BOX = SecretBox([b"k" * 32])
SECRET = b"s" * 32
CANARY = "xylophone-9173"
KEEP = {"x-raymart-cache": "300"}


@pytest.fixture
async def redis(redis_server: EmbeddedRedis):
    redis = make_redis(redis_server.url)
    yield redis
    await redis.aclose()


def cache_of(market, redis, **changes) -> ResponseCache:
    parts = {
        "store": AnswerStore(redis, BOX), "secret": SECRET, "directory": market.directory,
        "admission": LiveControls(market.sessions), "hold_gate": market.hold_gate, "usage_sink": market.usage_sink,
        "rater": market.rater, "hold_ttl_s": 60.0, "price_basis_points": 2_500,
    }  # fmt: skip
    return ResponseCache(**{**parts, **changes})


@pytest.fixture
async def cached(market, redis):
    """A market whose gateway has a cache, with money and one provider."""
    await with_cache(market, redis)
    await market.books.fund(1_000_000)
    await market.add_endpoint()
    return market


async def with_cache(market, redis, **changes):
    cache = cache_of(market, redis, **changes)
    market.inference = market.make_inference(cache=cache)
    market.client = await market.serve(market.inference)


async def ask(market, *, headers=KEEP, **changes) -> httpx.Response:
    body = market.body(temperature=0, **changes)
    reply = await market.client.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    await market.inference._cache.drain()
    return reply


def said(reply: httpx.Response) -> str | None:
    return reply.headers.get("x-raymart-cache")


async def outcomes(market, *asked: dict) -> list[str | None]:
    return [said(await ask(market, **changes)) for changes in asked]


class TwoAMinute:
    """The limits of one key."""

    version = 1

    def __init__(self, key_id):
        self._key_id = key_id

    def limits_of(self, _caller):
        return [(Level.API_KEY, self._key_id, Limits(requests_per_minute=2))]


class TestHit:
    async def test_the_second_is_the_first_again_for_a_quarter_of_its_price(self, cached):
        first, second = await ask(cached), await ask(cached)
        assert (said(first), said(second)) == ("miss", "hit")
        assert first.json()["choices"] == second.json()["choices"]
        assert len(cached.replicas[0].exchanges) == 1
        usage = second.json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 3
        quarter = 3 * -(-PRICES.token_prompt // 4) + 4 * -(-PRICES.token_completion // 4)
        assert [row[2] for row in await cached.usage()] == [
            3 * PRICES.token_prompt + 4 * PRICES.token_completion,
            quarter,
        ]
        assert second.headers["x-raymart-cost"] == usage["cost"]
        assert second.headers["x-raymart-attempts"] == "0"
        assert second.headers["x-raymart-provider"] == first.headers["x-raymart-provider"]
        assert second.headers["x-request-id"] != first.headers["x-request-id"]

    async def test_the_provider_is_paid_its_part_of_both_and_nothing_stays_held(self, cached):
        await ask(cached)
        await ask(cached)
        await cached.settle()
        rows = await cached.books.fetch(
            "select customer_nano_usd, provider_nano_usd, fee_nano_usd from usage_record where organization_id = %s"
            " order by id",
            cached.books.organization_id,
        )
        for customer, provider, fee in rows:
            assert customer == provider + fee
            assert fee == -(-customer * rows[0][2] // rows[0][0])
        assert await cached.balance() == (1_000_000 - sum(row[0] for row in rows), 0)
        assert (await cached.books.columns("provider_payable")).balance == sum(row[1] for row in rows)

    async def test_a_stream_is_given_again_as_a_stream(self, cached):
        first, second = await ask(cached, stream=True), await ask(cached, stream=True)
        assert said(second) == "hit"

        def pieces(reply):
            return [line.split('"choices":')[1] for line in reply.text.splitlines() if '"choices":' in line]

        assert pieces(first) == pieces(second)
        assert len(pieces(second)) > 4
        assert second.text.endswith("data: [DONE]\n\n")

    async def test_a_stream_answers_who_does_not_stream_and_the_other_way_round(self, cached):
        streamed = await ask(cached, stream=True)
        whole = await ask(cached)
        again = await ask(cached, stream=True)
        assert [said(each) for each in (streamed, whole, again)] == ["miss", "hit", "hit"]
        assert whole.json()["choices"][0]["message"]["content"] == "tok " * 4

    async def test_a_seed_is_as_good_as_greedy(self, cached):
        seeded = {"temperature": 0.7, "seed": 5}
        for wanted in ("miss", "hit"):
            reply = await cached.client.post("/v1/chat/completions", json=cached.body(**seeded), headers=KEEP)
            await cached.inference._cache.drain()
            assert said(reply) == wanted

    async def test_who_has_no_money_is_refused(self, cached):
        await ask(cached)
        await cached.settle()
        balance, _ = await cached.balance()
        await cached.books.value(
            "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
            [f"test:{new_id()}"],
            [await cached.books.account_id("customer_balance")],
            [await cached.books.account_id("promotional_credit")],
            [balance],
            ["credit_expired"],
        )
        reply = await cached.client.post(
            "/v1/chat/completions", json=cached.body(temperature=0), headers=KEEP
        )
        assert reply.status_code == 402

    async def test_a_key_may_wish_it_for_all_its_requests_and_a_request_may_not(self, cached):
        await cached.books.fetch("update api_key set answer_cache_s = 60 where id = %s", cached.key_id)
        assert await outcomes(cached, {"headers": {}}, {"headers": {}}) == ["miss", "hit"]
        assert await outcomes(cached, {"headers": {"x-raymart-cache": "0"}}) == [None]

    async def test_hits_count_as_requests(self, cached, redis):
        limiter = RateLimiter(TwoAMinute(cached.key_id), SharedBuckets(redis))
        await with_cache(cached, redis, limiter=limiter)
        assert await outcomes(cached, {}, {}, {}) == ["miss", "hit", "hit"]
        reply = await cached.client.post(
            "/v1/chat/completions", json=cached.body(temperature=0), headers=KEEP
        )
        assert reply.status_code == 429

    async def test_hits_misses_and_what_is_kept_are_counted(self, cached):
        assert await outcomes(cached, {}, {}, {"max_tokens": 5}, {"headers": {}}) == [
            "miss",
            "hit",
            "miss",
            None,
        ]
        await cached.client.post("/v1/chat/completions", json=cached.body(temperature=1.0), headers=KEEP)
        cache = cached.inference._cache
        assert (cache.hits, cache.misses, cache.bypasses) == (1, 2, 1)
        assert (cache.store.kept, cache.store.unkept) == (2, 0)
        assert 200 < cache.store.kept_bytes < 4_000

    async def test_free_answers_stay_free(self, market, redis):
        await with_cache(market, redis)
        await market.add_endpoint(prices=Prices())
        assert await outcomes(market, {}, {}) == ["miss", "hit"]


class TestMiss:
    async def test_without_the_wish_nothing_is_kept_or_taken(self, cached):
        assert await outcomes(cached, {"headers": {}}, {"headers": {}}, {}) == [None, None, "miss"]
        assert await outcomes(cached, {"headers": {"x-raymart-cache": "0"}}) == [None]

    async def test_what_would_not_be_the_same_again_is_passed_by(self, cached):
        for _ in range(2):
            reply = await cached.client.post(
                "/v1/chat/completions", json=cached.body(temperature=1.0), headers=KEEP
            )
            assert said(reply) == "bypass"

    @pytest.mark.parametrize(
        "changes",
        [
            {"max_tokens": 5},
            {"seed": 1},
            {"stop": ["x"]},
            {"messages": [{"role": "user", "content": "hi "}]},
            {"messages": [{"role": "system", "content": "hi"}]},
            {"response_format": {"type": "json_object"}},
            {"logprobs": True},
            {"provider": {"sort": "price"}},
        ],
    )
    async def test_anything_else_that_is_asked_is_another_answer(self, cached, changes):
        await ask(cached)
        assert await outcomes(cached, changes, {}) == ["miss", "hit"]

    async def test_another_organization_never_sees_it(self, cached, redis, sessions, database_url):
        await ask(cached)
        async with (
            make_pool(database_url, size_max=4, name="gateway-test") as own,
            gateway_market(sessions, own) as other,
        ):
            await with_cache(other, redis)
            await other.books.fund(1_000_000)
            other.slug = cached.slug
            for endpoint in cached.directory.endpoints.values():
                other.directory.add(endpoint, cached.directory.upstreams[endpoint.id])
            reply = await other.client.post(
                "/v1/chat/completions", json=other.body(temperature=0), headers=KEEP
            )
            assert said(reply) == "miss"

    async def test_it_goes_with_its_provider_and_with_its_revision(self, cached):
        await ask(cached)
        assert await cached.inference._cache._found(*visit_of(cached)) is not None
        [endpoint] = cached.directory.endpoints.values()
        for changes in ({"provider_id": new_id()}, {"revision_digest": "sha256:" + "0" * 64}):
            cached.directory.endpoints[endpoint.id] = replace(endpoint, **changes)
            answer = await cached.inference._cache._found(*visit_of(cached))
            assert answer is None
        cached.directory.endpoints[endpoint.id] = endpoint
        assert await outcomes(cached, {}) == ["hit"]

    async def test_one_that_broke_is_not_kept(self, cached):
        async def broken(exchange):
            exchange.prompt()
            exchange.step()
            exchange.transport.abort()

        cached.replicas[0].scripts.append(broken)
        await cached.client.post(
            "/v1/chat/completions", json=cached.body(temperature=0, stream=True), headers=KEEP
        )
        assert await outcomes(cached, {}) == ["miss"]

    @pytest.mark.parametrize("given", ["-1", "5.5", "x", "86401", "9" * 40, ""])
    async def test_a_wish_that_is_none_is_refused(self, cached, given):
        reply = await cached.client.post(
            "/v1/chat/completions", json=cached.body(), headers={"x-raymart-cache": given}
        )
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "x-raymart-cache")


def visit_of(market):
    """What `ask` asks, as the gateway reads it."""
    body = json.dumps(market.body(temperature=0)).encode()
    request = parse_chat(body).request
    visit = Visit(
        id=new_id(), caller=market.caller, request=request, surface=Surface.REST, streamed=False, ttl_s=300
    )
    return visit, request_digest(request)


class TestRedis:
    async def test_it_holds_neither_prompt_nor_answer_and_no_name_of_either(self, cached, redis):
        before = {name async for name in redis.scan_iter("raymart:answer:*")}
        await ask(cached, messages=[{"role": "user", "content": CANARY}])
        assert await outcomes(cached, {"messages": [{"role": "user", "content": CANARY}]}) == ["hit"]
        names = [name async for name in redis.scan_iter("raymart:answer:*") if name not in before]
        assert names
        for name in names:
            content = await redis.get(name)
            assert CANARY.encode() not in content
            assert b"tok" not in content
            assert cached.slug.encode() not in content
            assert 0 < await redis.ttl(name) <= 300

    async def test_without_redis_everything_is_a_miss_and_is_served(self, market, tmp_path: Path):
        away = make_redis(f"unix://{tmp_path}/none.sock")
        await with_cache(market, away)
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        assert await outcomes(market, {}, {}) == ["miss", "miss"]
        await away.aclose()

    async def test_what_is_there_under_the_key_and_is_not_ours_is_a_miss(self, cached, redis):
        await ask(cached)
        names = [name async for name in redis.scan_iter("raymart:answer:*")]
        contents = [await redis.get(name) for name in names]
        for name, content in zip(names, contents, strict=True):
            await redis.set(name, content[:-1] + bytes([content[-1] ^ 1]), keepttl=True)
        assert await outcomes(cached, {}) == ["miss"]

    async def test_an_organization_is_forgotten_whole_and_alone(self, cached, redis):
        bodies = [{"max_tokens": count} for count in (1, 2, 3)]
        await outcomes(cached, *bodies)
        other = new_id()
        assert await forget_answers(redis, other) == 0
        assert await outcomes(cached, *bodies) == ["hit"] * 3
        assert await forget_answers(redis, cached.books.organization_id) == 3
        assert await outcomes(cached, *bodies) == ["miss"] * 3

    async def test_an_organization_keeps_so_many_and_the_oldest_make_room(self, market, redis):
        await with_cache(market, redis, store=AnswerStore(redis, BOX, answers_max=2))
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        for ttl_s, count in ((100, 1), (200, 2), (300, 3)):
            await ask(market, max_tokens=count, headers={"x-raymart-cache": str(ttl_s)})
        assert await redis.zcard(f"raymart:answers:{market.books.organization_id.hex}") == 2
        assert await outcomes(market, {"max_tokens": 2}, {"max_tokens": 3}) == ["hit", "hit"]
        assert await outcomes(market, {"max_tokens": 1}) == ["miss"]

    async def test_an_answer_that_is_too_long_is_not_kept(self, cached):
        async def long(exchange):
            exchange.prompt()
            for token in range(600):
                exchange.step("x" * 511, ids=(token,))
            exchange.finish()

        cached.replicas[0].script = long
        assert await outcomes(cached, {"max_tokens": 700}, {"max_tokens": 700}) == ["miss", "miss"]
        store = cached.inference._cache.store
        assert (store.kept, store.unkept, store.kept_bytes) == (0, 2, 0)

    async def test_a_slow_redis_costs_a_moment(self, cached, redis, monkeypatch):
        await ask(cached)

        async def never(_keys):
            await asyncio.Event().wait()

        monkeypatch.setattr(cached.inference._cache.store._redis, "mget", never)
        assert await outcomes(cached, {}) == ["miss"]
