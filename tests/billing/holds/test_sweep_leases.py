"""Leases of gateways that died: what was used is posted first, the rest is given back; a live gateway keeps its own."""

import asyncio

from raymart_billing.holds.sweep import prune_leases, sweep_leases
from raymart_core.ids import new_id
from support.leases import LeaseDesk


class TestSweepLeases:
    async def test_the_rest_of_a_dead_gateways_lease_is_given_back(self, pool, books):
        await books.fund(1_000)
        desk, lease_id = LeaseDesk(books), new_id()
        await desk.take(lease_id, 500, ttl="1 microsecond")
        await desk.capture({new_id(): 30}, lease_id)
        await asyncio.sleep(0.001)
        async with pool.connection() as connection:
            assert await sweep_leases(connection, grace_s=0) >= 1
        assert await books.columns("customer_balance") == (30, 1_000, 0, 0)
        assert not (await desk.lease(lease_id)).is_open

    async def test_nothing_expires_within_the_grace_after_the_servers_start(self, pool, books):
        await books.fund(1_000)
        desk, lease_id = LeaseDesk(books), new_id()
        await desk.take(lease_id, 500, ttl="1 microsecond")
        await asyncio.sleep(0.001)
        async with pool.connection() as connection:
            assert await sweep_leases(connection, grace_s=86_400) == 0
        assert (await desk.lease(lease_id)).is_open


class TestPrune:
    async def test_leases_closed_long_ago_and_their_gateways_are_forgotten(self, pool, books):
        await books.fund(1_000)
        desk, old, recent = LeaseDesk(books), new_id(), new_id()
        await books.value("select gateway_register(%s)", desk.gateway_id)
        for lease_id in (old, recent):
            await desk.take(lease_id, 10)
            await desk.give_back(lease_id, step=2, closes=True)
        async with pool.connection() as connection:
            assert await prune_leases(connection) == 0
            assert await books.value("select lease_prune(200, '0')") >= 2
        assert not await books.fetch("select 1 from credit_lease where id = any(%s)", [old, recent])
        assert not await books.fetch("select 1 from gateway where id = %s", desk.gateway_id)
