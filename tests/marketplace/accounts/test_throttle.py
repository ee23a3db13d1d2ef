"""Back-off over two processes' throttles, alone, and while Redis goes and comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raymart_core.errors import Overloaded
from raymart_core.ids import new_id
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.throttle import KEPT_MAX, RETRY_REDIS_S, Limit, Throttle
from raymart_marketplace.shared_state import Redis, make_redis
from support.fixed_clock import Hand


def limit(*, free: int = 3, pause_s_max: float = 60, is_cleared: bool = False) -> Limit:
    """A counter that no other test has."""
    return Limit(
        name=f"test:{new_id().hex}", free=free, pause_s_max=pause_s_max, forget_s=600, is_cleared=is_cleared
    )


async def admitted(throttle: Throttle, limits: list[Limit], tries: int) -> int:
    """How many of so many tries get in."""
    count = 0
    for _ in range(tries):
        try:
            await throttle.admit(limits)
        except Overloaded:
            continue
        count += 1
    return count


async def wait_s(throttle: Throttle, one: Limit) -> int:
    with pytest.raises(Overloaded, match="too many tries") as refusal:
        await throttle.admit([one])
    return refusal.value.retry_after_s


@pytest.fixture
async def client(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = make_redis(redis_server.url)
    yield client
    await client.aclose()


Build = Callable[[], Throttle]


@pytest.fixture(params=["redis", "alone"])
def build(request: pytest.FixtureRequest, client: Redis) -> Build:
    """Both ways of counting keep one rule."""
    return lambda: Throttle(client if request.param == "redis" else None)


class TestAdmit:
    async def test_free_tries_then_a_pause(self, build: Build):
        assert await admitted(build(), [limit(free=3)], 1) == 1
        throttle, one = build(), limit(free=3)
        assert await admitted(throttle, [one], 10) == 3
        assert 1 <= await wait_s(throttle, one) <= 2

    async def test_hundred_at_once_are_no_more_than_one_by_one(self, build: Build):
        throttle, one = build(), limit(free=5)
        outcomes = await asyncio.gather(*(throttle.admit([one]) for _ in range(100)), return_exceptions=True)
        assert sum(each is None for each in outcomes) == 5
        assert all(each is None or isinstance(each, Overloaded) for each in outcomes)

    async def test_refused_try_counts_under_no_limit(self, build: Build):
        throttle, tight, wide = build(), limit(free=1), limit(free=4)
        assert await admitted(throttle, [tight, wide], 10) == 1
        assert await admitted(throttle, [wide], 10) == 3

    async def test_success_is_forgiven(self, build: Build):
        throttle, one = build(), limit(free=2)
        for _ in range(10):
            await throttle.admit([one])
            await throttle.forgive([one])
        assert await admitted(throttle, [one], 10) == 2

    async def test_success_clears_failures_only_where_it_may(self, build: Build):
        throttle, own, others = build(), limit(free=3, is_cleared=True), limit(free=3)
        for _ in range(2):
            await throttle.admit([own, others])
        await throttle.admit([own, others])
        await throttle.forgive([own, others])
        assert await admitted(throttle, [own], 10) == 3
        assert await admitted(throttle, [others], 10) == 1, "two failures stand"


class TestAlone:
    async def test_pause_doubles_up_to_its_cap_and_is_forgotten(self):
        hand = Hand()
        throttle, one = Throttle(None, monotonic=hand), limit(free=1, pause_s_max=8)
        pauses = []
        for _ in range(5):
            await throttle.admit([one])
            before = hand.at
            while await admitted_after(throttle, one, hand) is False:
                pass
            pauses.append(hand.at - before)
            await throttle.forgive([one])
        assert pauses == [1, 2, 4, 8, 8]
        hand.at += 601
        assert await admitted(throttle, [one], 3) == 1

    async def test_memory_is_bounded(self):
        throttle = Throttle(None)
        for _ in range(KEPT_MAX + 100):
            await throttle.admit([limit()])
        assert len(throttle._counters) == KEPT_MAX


async def admitted_after(throttle: Throttle, one: Limit, hand: Hand) -> bool:
    """Try; if it is too early, move on by half a second."""
    try:
        await throttle.admit([one])
    except Overloaded:
        hand.at += 0.5
        return False
    return True


class TestTwoProcesses:
    async def test_they_share_one_count(self, redis_server: EmbeddedRedis):
        clients = [make_redis(redis_server.url) for _ in range(2)]
        here, there = [Throttle(each) for each in clients]
        one = limit(free=6)
        counts = await asyncio.gather(admitted(here, [one], 20), admitted(there, [one], 20))
        assert sum(counts) == 6
        assert min(counts) < 6
        await here.forgive([one])
        assert await admitted(there, [one], 20) == 1
        for each in clients:
            await each.aclose()

    async def test_counter_is_forgotten_by_redis_itself(self, client: Redis):
        one = limit()
        await Throttle(client).admit([one])
        left_ms = await client.pttl(one.key)
        assert 0 < left_ms <= 600_000


class TestRedisAway:
    async def test_process_counts_alone_meanwhile_and_shares_again_afterwards(self, tmp_path: Path):
        hand = Hand()
        server = EmbeddedRedis(tmp_path / "redis")
        client = make_redis(server.start())
        throttle, one = Throttle(client, monotonic=hand), limit(free=4)
        assert await admitted(throttle, [one], 2) == 2
        server.stop()
        assert await admitted(throttle, [one], 50) == 4, "never open without a limit"
        await throttle.forgive([one])
        server.start()
        hand.at += RETRY_REDIS_S
        assert await admitted(throttle, [one], 50) == 2, "what Redis counted before stands"
        await client.aclose()
        server.stop()
