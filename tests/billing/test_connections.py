"""Patience while the database is away, and its end."""

import asyncio

import psycopg
import pytest

from raymart_billing.connections import PAUSE_S_MAX, Pauses, insist
from raymart_core.errors import Unavailable


class Failing:
    """Work that fails a number of times before it succeeds."""

    def __init__(self, times: int, error: type[Exception] = psycopg.OperationalError) -> None:
        self.left, self.error, self.runs = times, error, 0

    async def __call__(self, connection: object) -> str:
        self.runs += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "done"


class TestInsist:
    async def test_an_outage_is_waited_out(self, pool):
        work = Failing(3)
        assert await insist(pool, work, timeout_s=10, purpose="test") == "done"
        assert work.runs == 4

    async def test_what_is_no_outage_is_raised_at_once(self, pool):
        work = Failing(3, psycopg.errors.CheckViolation)
        with pytest.raises(psycopg.errors.CheckViolation):
            await insist(pool, work, timeout_s=10, purpose="test")
        assert work.runs == 1

    async def test_it_ends_in_time_and_says_what_was_wanted(self, pool):
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=r"test: the database did not answer within 0\.2 s"):
                await insist(pool, Failing(10**9), timeout_s=0.2, purpose="test")

    async def test_a_server_that_says_nothing_is_an_outage_too(self, pool):
        async def sleep(connection):
            await connection.execute("select pg_sleep(60)")

        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await insist(pool, sleep, timeout_s=0.2, purpose="test")

    async def test_a_cancellation_that_comes_as_a_lost_connection_still_ends_it(self, pool):
        """So does psycopg when the server goes away while it is being cancelled."""
        begun = asyncio.Event()

        async def lost(_connection):
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise psycopg.OperationalError from None

        waiting = asyncio.create_task(insist(pool, lost, timeout_s=60, purpose="test"))
        await begun.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await waiting


class TestPauses:
    async def test_they_grow_to_their_limit_and_no_further(self, monkeypatch):
        slept = []

        async def sleep(pause_s):
            slept.append(pause_s)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        pauses = Pauses()
        for _ in range(2_000):
            await pauses.rest()
        assert slept[0] <= 0.02
        assert min(slept[10:]) >= PAUSE_S_MAX / 2
        assert max(slept) <= PAUSE_S_MAX
