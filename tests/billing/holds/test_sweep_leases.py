"""Leases of gateways that died: what was used is posted first, the rest is given back; a live gateway keeps its own."""

import asyncio

import psycopg
import pytest
import structlog

from raymart_billing.holds.sweep import Expired, prune_leases, sweep_leases
from raymart_billing.ledger.verify import verify
from raymart_core.ids import new_id
from support.leases import LeaseDesk
from support.sealed_books import books_template, sound, sound_books, sound_url

__all__ = ["books_template", "sound", "sound_books", "sound_url"]


class TestSweepLeases:
    async def test_the_rest_of_a_dead_gateways_lease_is_given_back(self, pool, books):
        await books.fund(1_000)
        desk, lease_id = LeaseDesk(books), new_id()
        await desk.take(lease_id, 500, ttl="1 microsecond")
        await desk.capture({new_id(): 30}, lease_id)
        await asyncio.sleep(0.001)
        async with pool.connection() as connection:
            assert (await sweep_leases(connection, grace_s=0)).leases >= 1
        assert await books.columns("customer_balance") == (30, 1_000, 0, 0)
        assert not (await desk.lease(lease_id)).is_open

    async def test_nothing_expires_within_the_grace_after_the_servers_start(self, pool, books):
        await books.fund(1_000)
        desk, lease_id = LeaseDesk(books), new_id()
        await desk.take(lease_id, 500, ttl="1 microsecond")
        await asyncio.sleep(0.001)
        async with pool.connection() as connection:
            assert (await sweep_leases(connection, grace_s=86_400)).seen == 0
        assert (await desk.lease(lease_id)).is_open


async def spoil(connection, lease_id):
    """Resolve the lease's hold behind its back, as only a superuser with the triggers off can."""
    async with connection.transaction():
        await connection.execute("alter table transfer disable trigger apply_3_lease_holds")
        await connection.execute(
            "select ledger_void_hold(t.key) from transfer t join credit_lease l on l.transfer_id = t.id where l.id = %s",
            (lease_id,),
        )
        await connection.execute("alter table transfer enable trigger apply_3_lease_holds")


class TestBrokenLease:
    """Its hold was resolved behind the guards: what it says it holds, the ledger does not."""

    @pytest.fixture
    async def due(self, sound_books):
        """Three leases past their time: the first and the last are sound."""
        await sound_books.fund(1_000)
        desk, leases = LeaseDesk(sound_books), [new_id() for _ in range(3)]
        for lease_id in leases:
            await desk.take(lease_id, 100, ttl="1 microsecond")
        await asyncio.sleep(0.001)
        return desk, leases

    async def test_it_is_passed_over_with_an_alarm_and_the_others_expire(self, sound, due):
        desk, (first, broken, last) = due
        await spoil(sound, broken)
        with structlog.testing.capture_logs() as events:
            assert await sweep_leases(sound, grace_s=0) == Expired(leases=2, broken=(broken,))
        assert [(event["event"], event.get("lease_id")) for event in events] == [
            ("lease.broken", str(broken)),
            ("lease.expired", None),
        ]
        assert [(await desk.lease(lease_id)).is_open for lease_id in (first, broken, last)] == [
            False,
            True,
            False,
        ]
        assert (await desk.books.columns("customer_balance")).debits_pending == 0

    async def test_it_is_not_tried_at_each_sweep_and_crowds_out_nobody(self, sound, due):
        desk, leases = due
        for lease_id in leases[:2]:
            await spoil(sound, lease_id)
        assert (await sweep_leases(sound, limit=2, grace_s=0)).broken == tuple(sorted(leases[:2]))
        assert await sweep_leases(sound, limit=2, grace_s=0) == Expired(leases=1, broken=())
        assert (await sweep_leases(sound, limit=2, grace_s=0)).seen == 0
        assert not (await desk.lease(leases[2])).is_open

    async def test_verify_names_it(self, sound, due):
        _, (_, broken, _) = due
        await spoil(sound, broken)
        findings = (await verify(sound, key=None, head=None)).findings
        assert [finding.text for finding in findings] == [
            f"lease {broken} says it holds 100, and no open hold is its own"
        ]


class TestHoldOfALease:
    """Nothing but its lease resolves it, or opens one like it."""

    @pytest.fixture
    async def leased(self, books):
        await books.fund(1_000)
        desk, lease_id = LeaseDesk(books), new_id()
        await desk.take(lease_id, 400)
        return desk, lease_id, f"lease:{lease_id}:1"

    @pytest.mark.parametrize(
        "statement",
        [
            "select ledger_void_hold(%s)",
            "select ledger_void_holds(array[%s], 'hold_released')",
            "select ledger_post_hold(%s, 1, 'usage_charge')",
            "select ledger_post_hold(%s, 0, 'usage_charge')",
        ],
    )
    async def test_it_cannot_be_resolved_by_its_key(self, books, leased, statement):
        desk, lease_id, key = leased
        with pytest.raises(psycopg.errors.CheckViolation, match="only its lease"):
            await books.fetch(statement, key)
        assert (await books.columns("customer_balance")).debits_pending == 400
        assert await desk.give_back(lease_id, step=2, closes=True) == 1

    async def test_its_owner_cannot_resolve_it_past_the_functions(self, owner_url, leased):
        """Also not under another key."""
        _, _, key = leased
        async with await psycopg.AsyncConnection.connect(owner_url) as connection:
            with pytest.raises(psycopg.errors.CheckViolation, match="only its lease"):
                await connection.execute(
                    "insert into transfer"
                    " (key, debit_account_id, credit_account_id, amount, code, state, pending_id)"
                    " select 'other:' || key, debit_account_id, credit_account_id, 1, 'usage_charge', 'posted', id"
                    "   from transfer where key = %s",
                    (key,),
                )

    async def test_a_key_of_its_kind_cannot_be_taken(self, books, leased):
        """The next generation's, so that the lease could never change again."""
        _, lease_id, _ = leased
        balance, clearing = [await books.account_id(kind) for kind in ("customer_balance", "usage_clearing")]
        for statement in (
            "select ledger_hold(%s, %s, %s, 1, 'usage_hold', '1 hour')",
            "select ledger_post_batch(array[%s], array[%s::bigint], array[%s::bigint], array[1::bigint], array['usage_charge'])",
        ):
            with pytest.raises(psycopg.errors.CheckViolation, match="only its lease"):
                await books.fetch(statement, f"lease:{lease_id}:2", balance, clearing)


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
            while await books.value("select lease_prune(200, '0')"):
                pass  # Other tests' leases may be older than these.
        assert not await books.fetch("select 1 from credit_lease where id = any(%s)", [old, recent])
        assert not await books.fetch("select 1 from gateway where id = %s", desk.gateway_id)
