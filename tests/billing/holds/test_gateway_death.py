"""A gateway that is killed, and clocks that jump: money comes back within its time, and none is taken early or twice."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg

from raymart_billing.holds import GatewayLeases, LeaseLimits, sweep_leases
from raymart_billing.posting import post_requests
from raymart_core.ids import new_id
from raymart_core.money import Money
from support.books import Books

TESTS = Path(__file__).parents[2]
TTL_S = 2.0
HELD, USED = 5_000, 120


@asynccontextmanager
async def gateway(url, books, **variables):
    """A process that leased, recorded one usage that nobody has posted, and has another request running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "support" / "leasing_process.py"),
        *map(str, (url, books.organization_id, books.provider_id, HELD, TTL_S)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS), **variables},
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def sweep(pool):
    async with pool.connection() as connection:
        return (await sweep_leases(connection, grace_s=0)).leases


async def held(books):
    return (await books.columns("customer_balance")).debits_pending


class TestKill:
    async def test_its_lease_is_recovered_within_its_ttl_and_what_it_recorded_is_posted_from_it(
        self, database_url, pool, books
    ):
        await books.fund(100_000)
        async with gateway(database_url, books) as (process, leased):
            assert await held(books) >= HELD
            process.send_signal(signal.SIGKILL)
            await process.wait()
            killed_at = time.monotonic()
            # Not before its time is over, although its gateway is gone.
            await sweep(pool)
            assert await held(books) >= HELD
            async with pool.connection() as connection:
                assert await post_requests(connection, [UUID(leased["recorded"])]) == 1
            async with asyncio.timeout(20):
                while await held(books):
                    await sweep(pool)
                    await asyncio.sleep(0.05)
            assert time.monotonic() - killed_at < TTL_S + 10
        assert await books.columns("customer_balance") == (USED, 100_000, 0, 0)
        assert await books.fetch(
            "select code, amount from transfer where key like %s and state = 'posted'",
            f"lease:{leased['lease']}%",
        ) == [("usage_charge", USED)]

    async def test_while_it_lives_nothing_is_taken_from_it_even_long_past_its_time(
        self, database_url, pool, books
    ):
        """As if the database's clock had jumped: expired by the clock, and alive by its lock."""
        await books.fund(100_000)
        async with gateway(database_url, books) as (process, _):
            process.send_signal(signal.SIGSTOP)  # It renews nothing.
            await asyncio.sleep(TTL_S + 0.5)
            try:
                await sweep(pool)
                assert await held(books) >= HELD
            finally:
                process.send_signal(signal.SIGCONT)


class TestClocks:
    async def test_a_gateway_an_hour_off_leases_renews_and_gives_back_as_any_other(
        self, database_url, pool, monkeypatch
    ):
        """Its own wall clock is not asked: deadlines are monotonic, times are the database's."""
        for hours in (-1, 1):
            books = Books(pool)
            await books.fund(100_000)
            real = time.time
            monkeypatch.setattr(time, "time", lambda real=real, hours=hours: real() + hours * 3600)
            limits = LeaseLimits(slice_min=1_000, ttl_s=TTL_S, renew_every_s=0.3, margin_s=0.5)
            leases = GatewayLeases(pool, database_url, limits=limits)
            await leases.start()
            payer = {"organization_id": books.organization_id, "project_id": new_id(), "api_key_id": None}
            first = await leases.gate.hold(request_id=new_id(), amount=Money(10), ttl_s=60, **payer)
            await asyncio.sleep(TTL_S * 1.5)
            await sweep(pool)
            # Neither expired early nor doubled: the same lease admits after its first time is over.
            assert await leases.gate.hold(request_id=new_id(), amount=Money(10), ttl_s=60, **payer) == first
            [(left_s,)] = await books.fetch(
                "select extract(epoch from expires_at - clock_timestamp())::float8 from credit_lease where id = %s",
                first,
            )
            assert 0 < left_s <= TTL_S
            assert (
                await books.value(
                    "select count(*) from credit_lease where organization_id = %s", books.organization_id
                )
                == 1
            )
            await leases.stop()
            monkeypatch.undo()

    async def test_a_lease_of_a_live_gateway_outlives_a_jump_of_the_databases_clock(
        self, database_url, owner_url, pool, books
    ):
        """An hour past its expiry by that clock, and still its gateway's."""
        await books.fund(100_000)
        limits = LeaseLimits(slice_min=1_000, ttl_s=3_000, renew_every_s=500, margin_s=1)
        leases = GatewayLeases(pool, database_url, limits=limits)
        await leases.start()
        payer = {"organization_id": books.organization_id, "project_id": new_id(), "api_key_id": None}
        lease_id = await leases.gate.hold(request_id=new_id(), amount=Money(10), ttl_s=60, **payer)
        await expire_by_the_clock(owner_url, lease_id)
        await sweep(pool)
        assert await held(books) == 1_000
        assert await leases.gate.hold(request_id=new_id(), amount=Money(10), ttl_s=60, **payer) == lease_id
        await leases.stop()


async def expire_by_the_clock(url, lease_id):
    """What a jump by an hour does to a lease: its time is over. Past the guard, which nobody but a test does."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("set local search_path = public, lease_writer, pg_temp")
        await connection.execute(
            "update credit_lease set expires_at = clock_timestamp() - interval '1 hour' where id = %s",
            (lease_id,),
        )
