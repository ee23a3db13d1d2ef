"""Servers and processes die; what was acknowledged stays."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.holds import GatewayLeases, LeaseLimits
from raymart_billing.ledger import trial_balance
from raymart_billing.posting import LedgerUsageSink, sweep_usage
from raymart_core.errors import Unavailable
from raymart_core.money import Money
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.background import sweep_once
from support.books import Books, fetch, price

RESTARTS = 3
GATEWAY = Path(__file__).parents[2] / "support" / "recording_gateway.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this module's own, for it is crashed."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    upgrade(server.start())
    yield server
    server.destroy()


async def verdict(url: str):
    engine = make_engine(url, pool_size=1)
    async with session_scope(make_sessions(engine)) as session:
        found = await trial_balance(session)
    await engine.dispose()
    return found


class TestPostgresRestart:
    async def test_no_acknowledged_record_is_lost_and_every_hold_and_usage_is_settled(self, server):
        """Immediate stops under load: each is a crash, with recovery at the next start."""
        acknowledged: dict[UUID, int] = {}
        stop = asyncio.Event()
        async with make_pool(server.url, size_max=8) as pool:
            books = Books(pool)
            await books.fund(10**12)
            leases = GatewayLeases(pool, server.url, limits=LeaseLimits(statement_timeout_s=20))
            sink = LedgerUsageSink(pool, record_timeout_s=20, settlements=leases.settlements)
            await leases.start()
            await sink.start()

            async def customer() -> None:
                while not stop.is_set():
                    request = books.finished()
                    with contextlib.suppress(Unavailable):
                        lease_id = await leases.gate.hold(
                            request_id=request.id,
                            organization_id=books.organization_id,
                            project_id=request.project_id,
                            api_key_id=None,
                            amount=Money(500),
                            ttl_s=300,
                        )
                        await sink.record(replace(request, lease_id=lease_id))
                        acknowledged[request.id] = price(request)

            recoveries = []
            async with asyncio.TaskGroup() as group:
                for _ in range(16):
                    group.create_task(customer())
                for _ in range(RESTARTS):
                    await progress(acknowledged, by=200)
                    await asyncio.to_thread(server.stop, "immediate")
                    await asyncio.to_thread(server.start)
                    started = time.monotonic()
                    await progress(acknowledged, by=1)
                    recoveries.append(time.monotonic() - started)
                await progress(acknowledged, by=200)
                stop.set()
            await sink.stop()
            async with pool.connection() as connection:
                await sweep_usage(connection)
                recorded = dict(await fetch(connection, "select id, customer_nano_usd from usage_record"))
            await leases.give_back()
            await leases.stop()
            balance = await books.columns("customer_balance")

        assert acknowledged.items() <= recorded.items()
        assert balance == (sum(recorded.values()), 10**12, 0, 0)
        assert (await verdict(server.url)).balanced
        assert max(recoveries) < 10

    async def test_a_server_that_stays_away_is_unavailable_in_time_and_nothing_is_left_behind(self, server):
        async with make_pool(server.url, size_max=2) as pool:
            books = Books(pool)
            sink = LedgerUsageSink(pool, record_timeout_s=0.7)
            await sink.start()
            await sink.record(books.finished())
            await asyncio.to_thread(server.stop, "immediate")
            lost = books.finished()
            async with asyncio.timeout(30):
                with pytest.raises(Unavailable, match="no commit within"):
                    await sink.record(lost)
            await asyncio.to_thread(server.start)
            sink._record_timeout_s = 20
            await sink.record(books.finished())
            await sink.stop()
            assert not await books.is_recorded(lost.id)


async def progress(acknowledged, *, by: int) -> None:
    """Return once `by` more records were acknowledged."""
    goal = len(acknowledged) + by
    async with asyncio.timeout(30):
        while len(acknowledged) < goal:
            await asyncio.sleep(0.005)


class TestGatewayKilled:
    async def test_what_a_killed_process_acknowledged_is_recorded_and_the_sweep_settles_the_rest(
        self, server
    ):
        """SIGKILL in mid-load: acknowledged requests are paid for, leases end by their TTL."""
        async with make_pool(server.url, size_max=2) as pool:
            books = Books(pool)
            await books.fund(10**12)
            acknowledged: set[UUID] = set()
            for _ in range(3):
                acknowledged |= await asyncio.to_thread(run_and_kill, server.url, books, 150)

            # The killed processes leased for 1 s; right after a restart of the server nothing expires for 10 s.
            deadline = time.monotonic() + 40
            while (await books.columns("customer_balance")).debits_pending and time.monotonic() < deadline:
                await sweep_once(server.url)
                await asyncio.sleep(0.1)
            recorded = dict(
                await books.fetch(
                    "select id, customer_nano_usd from usage_record where organization_id = %s",
                    books.organization_id,
                )
            )
            assert len(acknowledged) >= 450
            assert acknowledged <= recorded.keys()
            assert await books.columns("customer_balance") == (sum(recorded.values()), 10**12, 0, 0)
            assert (await verdict(server.url)).balanced


def run_and_kill(url: str, books: Books, acknowledgements: int) -> set[UUID]:
    """Run a process that holds and records; SIGKILL it after so many acknowledgements; all that it had acknowledged."""
    argv = [sys.executable, str(GATEWAY), url, str(books.organization_id), str(books.provider_id)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline().strip() for _ in range(acknowledgements)]
        process.send_signal(signal.SIGKILL)
        # What it wrote before the signal still counts; a line cut short was never acknowledged.
        lines += [line.strip() for line in process.stdout if line.endswith("\n")]
    return {UUID(line) for line in lines}
