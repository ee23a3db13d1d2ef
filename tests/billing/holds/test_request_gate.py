"""The gate: no money, no work; and the database's word is final for any number of gateways."""

import asyncio

import pytest

from raymart_billing.connections import make_pool
from raymart_billing.holds import LedgerHoldGate
from raymart_core.errors import InsufficientFunds, Unavailable
from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money


@pytest.fixture
def gate(pool):
    return LedgerHoldGate(pool)


def hold(gate, books, amount, request_id=None, ttl_s=60.0):
    return gate.hold(
        request_id=request_id or new_id(),
        organization_id=books.organization_id,
        amount=Money(amount),
        ttl_s=ttl_s,
    )


class TestHold:
    async def test_the_amount_is_reserved(self, gate, books):
        await books.fund(1_000)
        await hold(gate, books, 400)
        assert await books.columns("customer_balance") == (0, 1_000, 400, 0)

    async def test_a_repeat_of_the_same_request_is_a_no_op(self, gate, books):
        await books.fund(1_000)
        request_id = new_id()
        for _ in range(3):
            await hold(gate, books, 400, request_id)
        assert (await books.columns("customer_balance")).debits_pending == 400

    async def test_too_little_is_402_with_what_is_needed_what_there_is_and_what_to_do(self, gate, books):
        await books.fund(1_000)
        await hold(gate, books, 700)
        with pytest.raises(InsufficientFunds) as refusal:
            await hold(gate, books, 301)
        assert refusal.value.status == 402
        for said in (
            str(Money(301)),
            str(Money(300)),
            "max_tokens",
            "add credit",
            show(Prefix.ORGANIZATION, books.organization_id),
        ):
            assert said in refusal.value.message

    async def test_who_never_had_credit_is_refused_and_no_account_is_opened(self, gate, books):
        with pytest.raises(InsufficientFunds, match=r"but 0\.0+ USD"):
            await hold(gate, books, 1)
        assert (
            await books.fetch("select 1 from ledger_account where owner_id = %s", books.organization_id) == []
        )

    async def test_a_free_request_needs_no_balance(self, gate, books):
        await hold(gate, books, 0)

    async def test_two_hundred_at_once_against_a_balance_for_fifty_admit_fifty(self, database_url, books):
        """Two pools stand for two gateway processes."""
        await books.fund(50 * 10)
        async with make_pool(database_url, size_max=8) as one, make_pool(database_url, size_max=8) as two:
            gates = [LedgerHoldGate(one), LedgerHoldGate(two)]
            outcomes = await asyncio.gather(
                *[hold(gates[turn % 2], books, 10) for turn in range(200)], return_exceptions=True
            )
        assert outcomes.count(None) == 50
        assert sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes) == 150
        assert await books.columns("customer_balance") == (0, 500, 500, 0)


class TestRelease:
    async def test_the_amount_is_available_again(self, gate, books):
        await books.fund(1_000)
        request_id = new_id()
        await hold(gate, books, 400, request_id)
        await gate.release(request_id=request_id)
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)
        assert [code for code, _, _ in await books.states_of(request_id)] == ["usage_hold", "hold_released"]

    async def test_a_second_release_and_one_of_nothing_are_no_ops(self, gate, books):
        await books.fund(1_000)
        request_id = new_id()
        await hold(gate, books, 400, request_id)
        for release in (request_id, request_id, new_id()):
            await gate.release(request_id=release)
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)

    async def test_a_captured_hold_stays_captured(self, gate, books):
        await books.fund(1_000)
        request_id = new_id()
        await hold(gate, books, 400, request_id)
        await books.capture({request_id: 300})
        await gate.release(request_id=request_id)
        assert await books.columns("customer_balance") == (300, 1_000, 0, 0)


class TestOutage:
    @pytest.fixture
    async def gate(self):
        """A gate whose database is not there: nothing listens on port 1."""
        async with make_pool("postgresql://raymart@127.0.0.1:1/raymart", size_max=1) as pool:
            yield LedgerHoldGate(pool, timeout_s=0.7)

    async def test_a_hold_is_refused_as_unavailable_in_time(self, gate, books):
        async with asyncio.timeout(3):
            with pytest.raises(Unavailable, match="hold"):
                await hold(gate, books, 1)

    async def test_a_release_is_left_to_the_ttl(self, gate):
        async with asyncio.timeout(3):
            await gate.release(request_id=new_id())

    async def test_a_pool_of_dead_connections_is_outlived(self, pool, books):
        """After a restart of the server every pooled connection is dead; a hold tries the next."""
        await books.fund(100)
        gate = LedgerHoldGate(pool)
        await asyncio.gather(*[hold(gate, books, 1) for _ in range(10)])
        await books.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'raymart-test' and pid <> pg_backend_pid()"
        )
        await asyncio.gather(*[hold(gate, books, 1) for _ in range(10)])
        assert (await books.columns("customer_balance")).debits_pending == 20
