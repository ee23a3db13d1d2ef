"""Leases taken, grown, posted from, returned, recalled and expired from many connections at once, in any order.

Nobody waits in a circle, and after every round columns and rows agree: what leases hold is what is pending, what budgets
have reserved is what their leases hold, and neither balance nor budget was ever overdrawn.
"""

import asyncio
import random
import time
from uuid import UUID

import psycopg
import pytest

from raymart_core.ids import new_id
from support.books import Books, fetch
from support.leases import LeaseDesk

CONNECTIONS = 12
FUNDS, LIMIT = 40_000, 30_000
EXPECTED = {
    "lease_within_balance",
    "lease_within_budget",
    "lease_within_share",
    "lease_is_open",
    "lease_not_blocked",
}


class Actor:
    """Does random things to leases of some customers, on a connection of its own."""

    def __init__(self, connection, desks, leases, seed):
        self.connection = connection
        self.desks = desks
        self.leases: dict[UUID, LeaseDesk] = leases
        self.random = random.Random(seed)
        self.done = 0

    async def step(self):
        act = self.random.choices(
            [
                self.take,
                self.grow,
                self.post,
                self.give_back,
                self.recall,
                self.renew,
                self.expire,
                self.limit,
            ],
            [4, 4, 6, 3, 0.3, 1, 0.5, 0.2],
        )[0]
        try:
            await act()
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name not in EXPECTED:
                raise
        self.done += 1

    def some(self):
        known = list(self.leases)
        return self.random.choice(known) if known else new_id()

    async def step_of(self, lease_id):
        rows = await fetch(self.connection, "select step from credit_lease where id = %s", lease_id)
        return rows[0][0] + 1 if rows else 1

    async def take(self):
        desk, lease_id = self.random.choice(self.desks), new_id()
        single_use = self.random.random() < 0.3
        needed = self.random.randint(1, 2_000)
        await desk.take(
            lease_id, needed, wanted=2 * needed, share=4, single_use=single_use,
            ttl=self.random.choice(["1 millisecond", "1 minute"]), connection=self.connection,
        )  # fmt: skip
        self.leases[lease_id] = desk

    async def grow(self):
        lease_id = self.some()
        desk = self.leases.get(lease_id) or self.random.choice(self.desks)
        step = await self.step_of(lease_id)
        await desk.take(lease_id, 50, wanted=500, share=4, step=step, connection=self.connection)

    async def post(self):
        """A batch over both customers, with leases that may be open, closed or unknown."""
        chosen = [self.some() for _ in range(self.random.randint(1, 8))]
        desks = [self.leases.get(lease_id) or self.desks[0] for lease_id in chosen]
        charges = [self.random.randint(1, 400) for _ in chosen]
        fees = [charge // 10 for charge in charges]
        await fetch(
            self.connection,
            "select * from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[])",
            [new_id() for _ in chosen], [desk.books.organization_id for desk in desks],
            [desk.books.provider_id for desk in desks], charges,
            [charge - fee for charge, fee in zip(charges, fees, strict=True)], fees, chosen,
        )  # fmt: skip

    async def give_back(self):
        chosen = [self.some() for _ in range(3)]
        steps = [await self.step_of(lease_id) for lease_id in chosen]
        await fetch(
            self.connection,
            "select lease_return(%s, %s, %s::integer[], %s::bigint[], %s::boolean[])",
            self.random.choice(self.desks).gateway_id, chosen, steps,
            [self.random.randint(0, 1_000) for _ in chosen], [self.random.random() < 0.3 for _ in chosen],
        )  # fmt: skip

    async def recall(self):
        await fetch(
            self.connection, "select lease_recall(%s)", self.random.choice(self.desks).books.organization_id
        )

    async def renew(self):
        await fetch(
            self.connection,
            "select * from lease_renew(%s, '1 second')",
            self.random.choice(self.desks).gateway_id,
        )

    async def expire(self):
        await fetch(self.connection, "select lease_expire(50, '0')")

    async def limit(self):
        """A limit that never comes below what is spent: only then must spent + reserved stay under it."""
        desk = self.random.choice(self.desks)
        await fetch(
            self.connection,
            "select budget_set(%s, %s, 'project', %s, 'monthly', %s, null)",
            new_id(), desk.books.organization_id, desk.project_id, LIMIT + self.random.randint(0, 5),
        )  # fmt: skip


async def check(books):
    """Columns and rows agree."""
    assert (
        await books.fetch(
            "select a.owner_id, a.debits_pending, sum(l.held) from ledger_account a"
            " join credit_lease l on l.organization_id = a.owner_id where a.kind = 'customer_balance'"
            " group by a.id having a.debits_pending <> sum(l.held)"
        )
        == []
    )
    assert (
        await books.fetch(
            "select p.budget_id, p.reserved, coalesce(sum(l.held), 0) from budget_period p"
            " left join lease_budget b on b.budget_id = p.budget_id and b.starts_on = p.starts_on"
            " left join credit_lease l on l.id = b.lease_id"
            " group by p.budget_id, p.starts_on having p.reserved <> coalesce(sum(l.held), 0)"
        )
        == []
    )
    assert (
        await books.fetch(
            "select l.id from credit_lease l left join open_hold o on o.transfer_id = l.transfer_id"
            " left join transfer t on t.id = l.transfer_id"
            " where l.held > 0 and (o.transfer_id is null or t.amount <> l.held"
            "   or t.key <> 'lease:' || l.id || ':' || l.generation)"
        )
        == []
    )


async def stress(url, pool, *, for_s, seed):
    desks = []
    for _ in range(2):
        books = Books(pool)
        await books.fund(FUNDS)
        desk = LeaseDesk(books)
        await desk.limit("project", desk.project_id, "monthly", LIMIT)
        await desk.limit("organization", books.organization_id, "daily", LIMIT + 3_000)
        desks.append(desk)
    leases: dict[UUID, LeaseDesk] = {}
    until = time.monotonic() + for_s

    async def act(number):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            actor = Actor(connection, desks, leases, f"{seed}-{number}")
            while time.monotonic() < until:
                await actor.step()
            return actor.done

    async with asyncio.TaskGroup() as group:
        actors = [group.create_task(act(number)) for number in range(CONNECTIONS)]
    for desk in desks:
        await check(desk.books)
        columns = await desk.books.columns("customer_balance")
        assert columns.debits_posted + columns.debits_pending <= FUNDS
    return sum(actor.result() for actor in actors)


class TestInterleavings:
    async def test_random_interleavings_neither_deadlock_nor_drift(self, database_url, pool):
        assert await stress(database_url, pool, for_s=2, seed="fast") > 50

    @pytest.mark.slow
    @pytest.mark.timeout(1_500)
    async def test_for_a_thousand_seconds(self, database_url, pool):
        for round_number in range(50):
            assert await stress(database_url, pool, for_s=20, seed=f"slow-{round_number}") > 100
