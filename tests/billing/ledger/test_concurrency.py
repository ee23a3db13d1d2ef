"""Many sessions at once: nobody overspends, nothing happens twice, nobody waits in a circle."""

import asyncio
import contextlib
import random

import psycopg
import pytest

from raymart_core.ids import new_id
from support.books import Books, fetch


@pytest.fixture
def crowd(database_url):
    """Run coroutine functions of a connection side by side, each on a connection of its own."""

    async def run(*works, url=database_url):
        async def alone(work):
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                return await work(connection)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(alone(work)) for work in works]
        return [task.result() for task in tasks]

    return run


class TestOverspend:
    async def test_a_balance_of_a_hundred_admits_exactly_a_hundred_holds_of_one(self, books, crowd):
        await books.fund(100)
        accounts = await books.account_id("customer_balance"), await books.account_id("usage_clearing")

        async def spend(connection):
            admitted = refused = 0
            for _ in range(20):
                try:
                    await connection.execute(
                        "select ledger_hold(%s, %s, %s, 1, 'usage_hold', '1 minute')",
                        (str(new_id()), *accounts),
                    )
                    admitted += 1
                except psycopg.errors.CheckViolation:
                    refused += 1
            return admitted, refused

        results = await crowd(*[spend] * 50)
        assert [sum(column) for column in zip(*results, strict=True)] == [100, 900]
        assert await books.columns("customer_balance") == (0, 100, 100, 0)

    async def test_the_check_alone_holds_without_the_look_ahead(self, books, crowd, owner_url):
        """Plain inserts, as another writer would make them: only row lock and CHECK stand between."""
        await books.fund(50)
        accounts = await books.account_id("customer_balance"), await books.account_id("usage_clearing")

        async def spend(connection):
            admitted = 0
            for _ in range(10):
                try:
                    await connection.execute(
                        "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, expires_at)"
                        " values (%s, %s, %s, 1, 'usage_hold', 'pending', now() + interval '1 minute')",
                        (str(new_id()), *accounts),
                    )
                    admitted += 1
                except psycopg.errors.CheckViolation:
                    pass
            return admitted

        assert sum(await crowd(*[spend] * 20, url=owner_url)) == 50


class TestOneEffect:
    async def test_forty_holds_with_one_key_hold_once(self, books, crowd):
        await books.fund(1_000)
        arguments = (
            str(new_id()),
            await books.account_id("customer_balance"),
            await books.account_id("usage_clearing"),
        )

        async def hold(connection):
            [[transfer_id]] = await fetch(
                connection, "select ledger_hold(%s, %s, %s, 7, 'usage_hold', '1 minute')", *arguments
            )
            return transfer_id

        assert len(set(await crowd(*[hold] * 40))) == 1
        assert (await books.columns("customer_balance")).debits_pending == 7

    async def test_a_hold_that_six_want_to_resolve_is_resolved_once(self, books, crowd):
        """Capture of two amounts, the usage's own capture, release, expiry and void, all at the same moment."""
        await books.fund(60 * 100)
        payable, clearing = (
            await books.account_id("provider_payable"),
            await books.account_id("usage_clearing"),
        )

        async def attempt(connection, statement, *arguments):
            # It may have been captured already, with another amount.
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                await fetch(connection, statement, *arguments)

        outcomes = set()
        for _ in range(60):
            request_id = new_id()
            key = f"hold:{request_id}"
            await books.hold(request_id, 100, "1 microsecond")
            rivals = [
                ("select ledger_post_hold(%s, 30, 'usage_charge')", key),
                ("select ledger_post_hold(%s, 100, 'usage_charge')", key),
                ("select ledger_void_hold(%s)", key),
                ("select ledger_void_holds(%s, 'hold_released')", [key]),
                ("select ledger_expire_holds(10)",),
                ("select ledger_expire_holds(10)",),
            ]
            random.shuffle(rivals)
            await crowd(*[lambda connection, rival=rival: attempt(connection, *rival) for rival in rivals])
            [(_code, state, amount)] = (await books.states_of(request_id))[1:]
            outcomes.add(state)
            if state == "posted":
                await books.value(
                    "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
                    [str(new_id())], [clearing], [payable], [amount], ["usage_earning"],
                )  # fmt: skip

        balance = await books.columns("customer_balance")
        assert balance.debits_pending == 0
        assert balance.debits_posted == (await books.columns("provider_payable")).balance
        assert (
            await books.value(
                "select count(*) from open_hold o join transfer t on t.id = o.transfer_id"
                " where t.debit_account_id = %s",
                await books.account_id("customer_balance"),
            )
            == 0
        )
        assert outcomes == {"posted", "voided"}

    async def test_six_that_capture_the_same_usages_pay_once(self, books, crowd):
        charges = {new_id(): 10 for _ in range(200)}
        await books.fund(2_000)
        fees = [1] * 200

        async def capture(connection):
            order = list(charges)
            random.shuffle(order)
            await fetch(
                connection,
                "select * from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[])",
                order, [books.organization_id] * 200, [books.provider_id] * 200, [10] * 200, [9] * 200, fees,
            )  # fmt: skip

        await crowd(*[capture] * 6)
        assert await books.columns("customer_balance") == (2_000, 2_000, 0, 0)
        assert (await books.columns("provider_payable")).balance == 1_800


class TestDeadlocks:
    async def test_batches_that_cross_never_wait_in_a_circle(self, pool, crowd):
        """Every kind of writer, on the same few accounts, in random orders. Postgres would end one side of a circle."""
        customers = [Books(pool) for _ in range(6)]
        for customer in customers:
            await customer.fund(1_000_000)
        ids = {
            customer.organization_id: (
                await customer.account_id("customer_balance"),
                await customer.account_id("usage_clearing"),
            )
            for customer in customers
        }
        promotion = await customers[0].account_id("promotional_credit")

        async def work(connection):
            for _ in range(15):
                chosen = random.sample(customers, 4)
                requests = [new_id() for _ in chosen]
                for request_id, customer in zip(requests, chosen, strict=True):
                    await fetch(
                        connection,
                        "select ledger_hold(%s, %s, %s, 100, 'usage_hold', %s::interval)",
                        f"hold:{request_id}",
                        *ids[customer.organization_id],
                        random.choice(["1 microsecond", "1 minute"]),
                    )
                await fetch(
                    connection,
                    "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
                    [str(new_id()) for _ in chosen],
                    [promotion] * 4,
                    [ids[customer.organization_id][0] for customer in chosen],
                    [1] * 4,
                    ["credit_grant"] * 4,
                )
                await fetch(connection, "select ledger_expire_holds(3)")
                await fetch(
                    connection,
                    "select * from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[])",
                    requests,
                    [customer.organization_id for customer in chosen],
                    [random.choice(customers).provider_id for _ in chosen],
                    [70] * 4,
                    [63] * 4,
                    [7] * 4,
                )

        await crowd(*[work] * 8)
        spent = 0
        for customer in customers:
            columns = await customer.columns("customer_balance")
            assert columns.debits_pending == 0
            spent += columns.debits_posted
        assert spent == 8 * 15 * 4 * 70
