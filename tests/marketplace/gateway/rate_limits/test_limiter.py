"""Limits over several processes, by a real Redis, and without one."""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from uuid import UUID

import pytest

from raymart_core.ids import new_id
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.rate_limits.buckets import SHARES, SharedBuckets
from raymart_marketplace.gateway.rate_limits.limiter import IDLE_S, Allowance, RateLimiter
from raymart_marketplace.gateway.rate_limits.limits import Kind, Level, Limits, RateLimited
from raymart_marketplace.shared_state import make_redis


class Known:
    """Limits by hand. Implements `limiter.LimitsOf`."""

    def __init__(self, **levels: Limits) -> None:
        self.version = 0
        self.levels = {Level(level): limits for level, limits in levels.items()}

    def limits_of(self, caller: Caller) -> Sequence[tuple[Level, UUID, Limits]]:
        ids = {
            Level.ORGANIZATION: caller.organization_id,
            Level.PROJECT: caller.project_id,
            Level.API_KEY: caller.api_key_id,
        }
        return [(level, ids[level], limits) for level, limits in self.levels.items()]


class Clock:
    """The monotonic clock, moved by hand; Redis has its own."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def new_caller(organization_id: UUID | None = None) -> Caller:
    return Caller(
        organization_id=organization_id or new_id(), project_id=new_id(), api_key_id=new_id(), user_id=None
    )


@pytest.fixture
async def redis(redis_server):
    client = make_redis(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def gone():
    """Nobody answers there."""
    client = make_redis("redis://127.0.0.1:1/0")
    yield client
    await client.aclose()


def limiter_of(redis, known: Known, clock: Clock | None = None) -> RateLimiter:
    clock = clock or Clock()
    return RateLimiter(known, SharedBuckets(redis, monotonic=clock), monotonic=clock)


async def taken(limiter: RateLimiter, caller: Caller, *, tries: int, tokens: int = 0) -> list[Allowance]:
    found = []
    for _ in range(tries):
        with contextlib.suppress(RateLimited):
            found.append(await limiter.take(caller, tokens))
    return found


class CountedRedis:
    """Counts the calls of a script."""

    def __init__(self, redis) -> None:
        self._redis = redis
        self.calls = 0

    def register_script(self, text: str):
        script = self._redis.register_script(text)

        async def call(**arguments):
            self.calls += 1
            return await script(**arguments)

        return call

    def pipeline(self, **options):
        return self._redis.pipeline(**options)


class TestRequests:
    async def test_exactly_the_limit_is_let_in_over_three_processes(self, redis):
        known, caller = Known(api_key=Limits(requests_per_minute=6)), new_caller()
        limiters = [limiter_of(redis, known) for _ in range(3)]
        counts = [len(await taken(limiter, caller, tries=5)) for limiter in limiters]
        assert sum(counts) == 6

    async def test_the_refusal_names_the_limit_and_when_to_come_again(self, redis):
        limiter = limiter_of(redis, Known(api_key=Limits(requests_per_minute=2)))
        caller = new_caller()
        await taken(limiter, caller, tries=2)
        with pytest.raises(RateLimited) as caught:
            await limiter.take(caller, 0)
        error = caught.value
        assert (error.level, error.kind, error.limit, error.status) == (Level.API_KEY, Kind.REQUESTS, 2, 429)
        assert 25 <= error.retry_after_s <= 30  # One in half a minute.

    async def test_the_narrowest_level_refuses_and_nothing_is_taken_of_the_others(self, redis):
        known = Known(
            organization=Limits(requests_per_minute=5),
            project=Limits(requests_per_minute=4),
            api_key=Limits(requests_per_minute=1),
        )
        organization = new_id()
        first, second = new_caller(organization), new_caller(organization)
        limiter = limiter_of(redis, known)
        assert len(await taken(limiter, first, tries=10)) == 1
        assert len(await taken(limiter, second, tries=10)) == 1
        others = [new_caller(organization) for _ in range(5)]
        assert [len(await taken(limiter, other, tries=1)) for other in others] == [1, 1, 1, 0, 0]

    async def test_who_is_refused_asks_redis_no_more_for_that_long(self, redis):
        counted = CountedRedis(redis)
        limiter = limiter_of(counted, Known(api_key=Limits(requests_per_minute=1)))
        caller = new_caller()
        assert len(await taken(limiter, caller, tries=50)) == 1
        assert counted.calls == 2

    async def test_with_plenty_left_redis_is_asked_seldom(self, redis):
        counted = CountedRedis(redis)
        limiter = limiter_of(counted, Known(organization=Limits(requests_per_minute=16_000)))
        assert len(await taken(limiter, new_caller(), tries=1_000)) == 1_000
        assert counted.calls == 1

    async def test_what_lies_idle_is_handed_back_after_a_second(self, redis):
        known, caller, clock = Known(api_key=Limits(requests_per_minute=160)), new_caller(), Clock()
        idle, other = limiter_of(redis, known, clock), limiter_of(redis, known)
        await idle.take(caller, 0)
        [share] = idle.shares_of(caller)
        assert share.requests == 159 // SHARES
        clock.now += 1.0
        await idle.tick()
        assert share.requests == 0
        assert len(await taken(other, caller, tries=200)) == 159

    async def test_a_lower_limit_holds_at_once(self, redis):
        known, caller = Known(api_key=Limits(requests_per_minute=1_000)), new_caller()
        limiter = limiter_of(redis, known)
        await limiter.take(caller, 0)
        known.levels, known.version = {Level.API_KEY: Limits(requests_per_minute=2)}, 1
        assert len(await taken(limiter, caller, tries=10)) == 2

    async def test_without_limits_nothing_is_counted(self, gone):
        limiter = limiter_of(gone, Known())
        assert await limiter.take(new_caller(), 10) is None

    async def test_a_request_that_was_not_let_in_after_all_counts_nothing(self, redis):
        limiter = limiter_of(redis, Known(api_key=Limits(requests_per_minute=1, concurrent_requests=1)))
        caller = new_caller()
        for _ in range(3):
            [allowance] = await taken(limiter, caller, tries=1)
            allowance.undo()


class TestTokens:
    async def test_what_was_not_used_is_given_back(self, redis):
        limiter = limiter_of(redis, Known(project=Limits(tokens_per_minute=1_000)))
        caller = new_caller()
        for _ in range(20):
            (await limiter.take(caller, 900)).settle(5)
        assert await taken(limiter, caller, tries=5, tokens=990) == []

    async def test_what_was_used_beyond_the_guess_is_paid_off_later(self, redis):
        limiter = limiter_of(redis, Known(project=Limits(tokens_per_minute=600)))
        caller = new_caller()
        (await limiter.take(caller, 10)).settle(1_200)
        with pytest.raises(RateLimited) as caught:
            await limiter.take(caller, 10)
        assert caught.value.kind is Kind.TOKENS
        assert 58 <= caught.value.retry_after_s <= 61  # 600 of debt and 10, at 10 a second.

    async def test_a_request_of_more_than_a_minute_is_served_and_paid_off(self, redis):
        limiter = limiter_of(redis, Known(project=Limits(tokens_per_minute=100)))
        caller = new_caller()
        (await limiter.take(caller, 1_000_000)).settle(150)
        assert await taken(limiter, caller, tries=1, tokens=1) == []

    async def test_settling_twice_gives_back_once(self, redis):
        limiter = limiter_of(redis, Known(project=Limits(tokens_per_minute=100)))
        caller = new_caller()
        allowance = await limiter.take(caller, 50)
        allowance.settle(0)
        allowance.settle(0)
        allowance.undo()
        [share] = limiter.shares_of(caller)
        assert share.running == 0
        assert share.tokens + share.left_tokens <= 100

    async def test_a_debt_outlives_the_process_that_made_it(self, redis):
        known, caller, clock = Known(project=Limits(tokens_per_minute=60)), new_caller(), Clock()
        first, second = limiter_of(redis, known, clock), limiter_of(redis, known)
        (await first.take(caller, 1)).settle(10_000)
        clock.now += 1.0
        await first.tick()
        with pytest.raises(RateLimited) as caught:
            await second.take(caller, 1)
        assert caught.value.retry_after_s > 9_000


class TestConcurrency:
    async def test_no_more_run_at_once_over_processes(self, redis):
        known, caller = Known(organization=Limits(concurrent_requests=5)), new_caller()
        limiters = [limiter_of(redis, known) for _ in range(3)]
        running = [await taken(limiter, caller, tries=4) for limiter in limiters]
        assert sum(map(len, running)) == 5

    async def test_who_ends_makes_room_for_the_next(self, redis):
        limiter = limiter_of(redis, Known(api_key=Limits(concurrent_requests=1)))
        caller = new_caller()
        for _ in range(3):
            [allowance] = await taken(limiter, caller, tries=2)
            allowance.settle(0)

    async def test_room_that_one_process_frees_is_there_for_another(self, redis):
        known, caller, clock = Known(api_key=Limits(concurrent_requests=2)), new_caller(), Clock()
        first, second = limiter_of(redis, known, clock), limiter_of(redis, known)
        running = await taken(first, caller, tries=3)
        assert await taken(second, caller, tries=1) == []
        for allowance in running:
            allowance.settle(0)
        clock.now += 1.0
        await first.tick()
        assert len(running) == 2
        second._buckets._monotonic.now += 1.0
        assert len(await taken(second, caller, tries=3)) == 2

    async def test_many_at_once_in_one_process_are_counted_one_by_one(self, redis):
        """Keys of one organization ask at the same moment, each by its own call."""
        known = Known(
            organization=Limits(concurrent_requests=7), api_key=Limits(requests_per_minute=1_000_000)
        )
        organization = new_id()
        limiter = limiter_of(redis, known)
        callers = [new_caller(organization) for _ in range(40)]
        found = await asyncio.gather(*(limiter.take(one, 0) for one in callers), return_exceptions=True)
        assert sum(isinstance(one, Allowance) for one in found) == 7
        assert sum(isinstance(one, RateLimited) for one in found) == 33

    async def test_who_needs_no_call_takes_no_room_from_one_who_waits_for_his(self, redis):
        """One asks Redis for the last room of the organization, while another finds it in hand."""
        known = Known(
            organization=Limits(concurrent_requests=40), api_key=Limits(requests_per_minute=1_000_000)
        )
        organization = new_id()
        here, elsewhere = limiter_of(redis, known), limiter_of(redis, known)
        quick, slow = new_caller(organization), new_caller(organization)
        await here.take(quick, 0)
        [share, _] = here.shares_of(quick)
        assert (share.running, share.slots) == (1, 2.0)
        assert len(await taken(elsewhere, new_caller(organization), tries=50)) == 38
        found = await asyncio.gather(here.take(slow, 0), here.take(quick, 0), return_exceptions=True)
        assert [type(one) for one in found].count(Allowance) == 1

    async def test_what_runs_is_renewed_and_what_died_runs_out(self, redis):
        known, caller, clock = Known(api_key=Limits(concurrent_requests=1)), new_caller(), Clock()
        alive = limiter_of(redis, known, clock)
        await alive.take(caller, 0)
        key = f"raymart:limits:{{{caller.organization_id.hex}}}:{caller.api_key_id.hex}"

        async def ends_at() -> int:
            held = await redis.hgetall(key)
            [value] = [value for name, value in held.items() if name not in {b"r", b"t", b"at"}]
            return int(value.split()[1])

        before = await ends_at()
        await asyncio.sleep(0.01)
        clock.now += 1.0
        await alive.tick()
        assert await ends_at() > before
        dead = {name: b"1 1" for name in await redis.hkeys(key) if name not in {b"r", b"t", b"at"}}
        await redis.hset(key, mapping=dead)
        assert len(await taken(limiter_of(redis, known), caller, tries=2)) == 1


class TestWithoutRedis:
    async def test_each_process_has_its_part(self, gone):
        limiter = limiter_of(gone, Known(api_key=Limits(requests_per_minute=12, concurrent_requests=100)))
        limiter._buckets.processes = 3
        assert len(await taken(limiter, new_caller(), tries=20)) == 4

    async def test_a_small_limit_does_not_become_none(self, gone):
        limiter = limiter_of(gone, Known(api_key=Limits(requests_per_minute=1, concurrent_requests=1)))
        limiter._buckets.processes = 8
        assert len(await taken(limiter, new_caller(), tries=3)) == 1

    async def test_its_part_comes_back_with_time(self, gone):
        clock = Clock()
        limiter = limiter_of(gone, Known(api_key=Limits(requests_per_minute=60)), clock)
        caller = new_caller()
        assert len(await taken(limiter, caller, tries=100)) == 60
        with pytest.raises(RateLimited) as caught:
            await limiter.take(caller, 0)
        assert caught.value.retry_after_s == 1
        clock.now += 10.0
        assert len(await taken(limiter, caller, tries=100)) == 10

    async def test_a_request_longer_than_its_part_is_served(self, gone):
        limiter = limiter_of(gone, Known(api_key=Limits(tokens_per_minute=1_000)))
        limiter._buckets.processes = 10
        assert len(await taken(limiter, new_caller(), tries=3, tokens=900)) == 1

    async def test_what_was_made_alone_is_not_handed_to_redis(self, redis):
        known, caller, clock = Known(api_key=Limits(requests_per_minute=10)), new_caller(), Clock()
        limiter = limiter_of(redis, known, clock)
        limiter._buckets._away_until = clock.now + 1.0
        assert len(await taken(limiter, caller, tries=1)) == 1
        clock.now += 1.0
        assert (
            len(await taken(limiter, caller, tries=30)) <= 10 + 9
        )  # What was in hand, and a bucket that is full.

    async def test_what_was_made_alone_is_nothing_to_others(self, redis):
        known, caller, clock = Known(api_key=Limits(requests_per_minute=10)), new_caller(), Clock()
        alone, other = limiter_of(redis, known, clock), limiter_of(redis, known)
        alone._buckets._away_until = clock.now + 1.0
        assert len(await taken(alone, caller, tries=1)) == 1
        assert len(await taken(other, caller, tries=20)) == 10
        clock.now += 1.0
        await alone.tick()
        other._buckets._monotonic.now += 10.0
        assert await taken(other, caller, tries=1) == []

    async def test_it_is_asked_again_a_second_later(self, redis):
        clock = Clock()
        limiter = limiter_of(redis, Known(api_key=Limits(requests_per_minute=10)), clock)
        limiter._buckets._away_until = clock.now + 1.0
        assert limiter._buckets.is_away
        clock.now += 1.0
        assert not limiter._buckets.is_away


class TestTick:
    async def test_processes_are_counted(self, redis):
        known = Known()
        one, two = limiter_of(redis, known), limiter_of(redis, known)
        await one.tick()
        await two.tick()
        assert two._buckets.processes >= 2

    async def test_who_has_not_come_for_a_minute_is_forgotten(self, redis):
        clock = Clock()
        limiter = limiter_of(redis, Known(api_key=Limits(requests_per_minute=10)), clock)
        caller = new_caller()
        allowance = await limiter.take(caller, 0)
        clock.now += IDLE_S + 1
        await limiter.tick()
        assert limiter._shares  # It runs.
        allowance.settle(0)
        await limiter.tick()
        assert not limiter._shares
        assert not limiter._groups

    async def test_stopping_hands_everything_back(self, redis):
        known, caller = Known(api_key=Limits(requests_per_minute=160, concurrent_requests=9)), new_caller()
        limiter = limiter_of(redis, known)
        limiter.start()
        (await limiter.take(caller, 0)).settle(0)
        await limiter.stop()
        assert len(await taken(limiter_of(redis, known), caller, tries=200)) == 9
        [share] = limiter.shares_of(caller)
        assert math.isclose(share.requests, 0)
