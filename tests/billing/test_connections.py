"""Patience while the database is away, and its end."""

import asyncio
import contextlib
import socket
import time

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from raymart_billing.connections import (
    PAUSE_S_MAX,
    RECONNECT_EVERY_S,
    KeptConnection,
    Pauses,
    insist,
    make_pool,
)
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
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable, match=r"test: the database did not answer within 0\.2 s"):
                await insist(pool, Failing(10**9), timeout_s=0.2, purpose="test")

    async def test_a_server_that_says_nothing_is_an_outage_too(self, pool):
        async def sleep(connection):
            await connection.execute("select pg_sleep(60)")

        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await waiting


class LateServer:
    """A port that refuses connections until `open`, and from then on passes them on to the server of `url`."""

    def __init__(self, url: str) -> None:
        where = psycopg.conninfo.conninfo_to_dict(url)
        self._upstream = where["host"], int(where["port"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = psycopg.conninfo.make_conninfo(url, port=self.port)
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Once its clients have gone."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._passing)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.current_task())
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65_536):
        writer.write(block)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


class TestPool:
    async def test_who_waits_is_served_soon_after_the_server_is_back(self, database_url):
        """Psycopg alone tries after 1 s and 2 s more, and then no more until somebody else asks."""
        server = LateServer(database_url)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(server.close)
            pool = await stack.enter_async_context(make_pool(server.url, size_max=1))
            waiting = asyncio.create_task(pool.getconn(timeout=60))
            await asyncio.sleep(2.2)
            assert not waiting.done()
            await server.open()
            back_at = time.monotonic()
            await pool.putconn(await waiting)
            assert time.monotonic() - back_at < 30

    async def test_nobody_waits_and_nothing_is_tried(self):
        async with make_pool("postgresql://x@127.0.0.1:1/x", size_max=1) as pool:
            await asyncio.sleep(4 * RECONNECT_EVERY_S)
            tried = pool.get_stats()["connections_num"]
            await asyncio.sleep(3 * RECONNECT_EVERY_S)
            assert pool.get_stats()["connections_num"] == tried


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


class TestKeptConnection:
    @pytest.fixture
    async def one(self, database_url):
        async with make_pool(database_url, size_max=1) as pool:
            yield pool

    async def test_it_is_the_same_from_use_to_use_until_it_is_given_back(self, one):
        kept = KeptConnection(one)
        async with kept.use(5) as first:
            pass
        async with kept.use(5) as second:
            assert second is first
        with pytest.raises(PoolTimeout):
            await one.getconn(0.01)
        await kept.give_back()
        await kept.give_back()
        async with one.connection(5) as connection:
            await connection.execute("select 1")

    async def test_one_that_was_lost_is_not_kept(self, one):
        kept = KeptConnection(one)
        with pytest.raises(psycopg.OperationalError):
            async with kept.use(5) as connection:
                await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        async with kept.use(5) as connection:
            await connection.execute("select 1")
        await kept.give_back()
