"""The gate: admission in memory under leases, and the database's word near zero, for any number of gateways."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from raymart_billing.connections import make_pool
from raymart_billing.holds import BudgetExceeded, GatewayLeases, LeaseLimits
from raymart_core.errors import Forbidden, InsufficientFunds, Unavailable
from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money
from support.leases import LeaseDesk

LIMITS = LeaseLimits(slice_min=100, slice_max=100_000, share=4, idle_s=60, per_request_s=0.2)
SLICE = 100


@pytest.fixture
def desk(books):
    return LeaseDesk(books)


@pytest.fixture
async def start(pool):
    """Starts gateways on the session's database, and stops them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(limits=LIMITS, on=pool):
            leases = GatewayLeases(on, on.conninfo, limits=limits)
            await leases.start()
            stack.push_async_callback(leases.stop)
            return leases

        yield start


@pytest.fixture
async def leases(start):
    return await start()


def hold(leases, desk, amount, request_id=None, *, ttl_s=60.0, api_key_id=None):
    return leases.gate.hold(
        request_id=request_id or new_id(),
        organization_id=desk.books.organization_id,
        project_id=desk.project_id,
        api_key_id=api_key_id or desk.api_key_id,
        amount=Money(amount),
        ttl_s=ttl_s,
    )


async def pending(books):
    return (await books.columns("customer_balance")).debits_pending


async def open_leases(books):
    return await books.value(
        "select count(*) from credit_lease where organization_id = %s and closed_at is null",
        books.organization_id,
    )


async def until(condition, timeout_s=10):
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def account_locked(books):
    """The customer's account is busy in another session: a lease waits for it."""
    async with books.pool.connection() as connection, connection.transaction():
        await connection.execute(
            b"select ledger_lock_accounts(array(select id from ledger_account where owner_id = %s))",
            (books.organization_id,),
        )
        yield


async def waits_for_a_lock(books):
    return await books.value(
        "select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock' and query like '%%lease_take%%'"
    )


class TestSlices:
    async def test_many_requests_share_one_lease_and_one_statement(self, leases, desk, books):
        await books.fund(1_000)
        granted = await asyncio.gather(*[hold(leases, desk, 2) for _ in range(20)])
        assert len(set(granted)) == 1
        assert await books.fetch("select step, held from credit_lease where id = %s", granted[0]) == [
            (1, SLICE)
        ]

    async def test_keys_without_budgets_of_their_own_share_a_lease_and_others_do_not(
        self, start, desk, books
    ):
        await books.fund(10_000)
        limited = new_id()
        await desk.limit("api_key", limited, "daily", 5_000)
        leases = await start()  # Not before: the recall would come between the requests.
        one = await hold(leases, desk, 5, api_key_id=new_id())
        two = await hold(leases, desk, 5, api_key_id=new_id())
        three = await hold(leases, desk, 5, api_key_id=limited)
        assert one == two != three

    async def test_a_lease_that_is_being_taken_is_not_closed_by_the_keeper(self, leases, desk, books):
        """It has no deadline yet. The keeper looks right after a gateway is back, which is when leases are taken."""
        await books.fund(1_000)
        async with account_locked(books):
            first = asyncio.create_task(hold(leases, desk, 10))

            async def is_asked_for():
                return bool(leases._book.leases)

            await until(is_asked_for)
            leases._keeper._close_what_is_over(asyncio.get_running_loop().time())
        assert await hold(leases, desk, 10) == await first

    async def test_a_repeat_of_the_same_request_reserves_once(self, leases, desk, books):
        await books.fund(1_000)
        request_id = new_id()
        first = await hold(leases, desk, 60, request_id)
        assert await hold(leases, desk, 60, request_id) == first
        await hold(leases, desk, 40)
        leases.settlements.released(request_id)
        assert await hold(leases, desk, 60) == first

    async def test_after_settlement_only_the_charge_counts(self, start, desk, books):
        """A lease of 100 serves a hundred requests that may cost 50 and cost 1."""
        await books.fund(1_000)
        leases = await start(replace(LIMITS, slice_max=SLICE))
        used = set()
        for _ in range(50):
            request_id = new_id()
            used.add(await hold(leases, desk, 50, request_id))
            leases.settlements.settled(request_id, Money(1))
        assert len(used) == 1

    async def test_what_is_not_settled_in_its_time_is_available_again(self, start, desk, books):
        await books.fund(1_000)
        leases = await start(replace(LIMITS, renew_every_s=0.05))
        await hold(leases, desk, 100, ttl_s=0.01)
        lease = next(iter(leases._book.leases.values()))
        async with asyncio.timeout(30):
            while lease.reserved:
                await asyncio.sleep(0.01)

    async def test_an_idle_lease_is_given_back(self, start, desk, books):
        await books.fund(1_000)
        leases = await start(replace(LIMITS, renew_every_s=0.05, idle_s=0.2))
        request_id = new_id()
        await hold(leases, desk, 10, request_id)
        assert await pending(books) >= 10
        await leases.gate.release(request_id=request_id)

        async def is_back():
            return await pending(books) == 0 and await open_leases(books) == 0

        await until(is_back)
        assert await hold(leases, desk, 10)

    async def test_slices_grow_with_the_rate_of_spending(self, start, desk, books):
        await books.fund(10**9)
        leases = await start(replace(LIMITS, slice_min=100, slice_max=10**6))
        for _ in range(40):
            request_id = new_id()
            await hold(leases, desk, 100, request_id)
            leases.settlements.settled(request_id, Money(100))
        steps = await books.value(
            "select sum(step) from credit_lease where organization_id = %s", books.organization_id
        )
        assert steps < 15

    async def test_stopping_gives_everything_back(self, start, desk, books):
        await books.fund(1_000)
        leases = await start()
        request_id = new_id()
        await hold(leases, desk, 10, request_id)
        await leases.gate.release(request_id=request_id)
        await leases.stop()
        assert (await pending(books), await open_leases(books)) == (0, 0)


class TestNearZero:
    async def test_the_last_of_a_balance_is_had_request_by_request(self, leases, desk, books):
        await books.fund(100)
        request_id = new_id()
        assert await hold(leases, desk, 100, request_id) == request_id
        assert await pending(books) == 100
        await leases.gate.release(request_id=request_id)

        async def is_back():
            return await pending(books) == 0

        await until(is_back)

    async def test_too_little_is_402_with_what_is_needed_what_there_is_and_what_to_do(
        self, leases, desk, books
    ):
        await books.fund(1_000)
        await hold(leases, desk, 700)
        with pytest.raises(InsufficientFunds) as refusal:
            await hold(leases, desk, 301)
        assert (refusal.value.status, refusal.value.code) == (402, "insufficient_funds")
        for said in (
            str(Money(301)), str(Money(300)), "max_tokens", "add credit",
            show(Prefix.ORGANIZATION, books.organization_id),
        ):  # fmt: skip
            assert said in refusal.value.message

    async def test_who_never_had_credit_is_refused_and_no_account_is_opened(self, leases, desk, books):
        with pytest.raises(InsufficientFunds, match=r"but 0\.0+ USD"):
            await hold(leases, desk, 1)
        assert not await books.fetch(
            "select 1 from ledger_account where owner_id = %s", books.organization_id
        )

    async def test_money_that_came_in_is_had_at_once(self, leases, desk, books):
        with pytest.raises(InsufficientFunds):
            await hold(leases, desk, 100)
        await books.fund(100)
        assert await hold(leases, desk, 100)

    async def test_what_another_gateway_does_not_need_is_recalled(self, start, desk, books):
        await books.fund(1_000)
        one, two = await start(), await start()
        await asyncio.gather(*[hold(one, desk, 10) for _ in range(3)])
        assert await pending(books) >= 100
        assert await hold(two, desk, 970)
        assert await pending(books) == 1_000
        with pytest.raises(InsufficientFunds):
            await hold(one, desk, 1)

    async def test_its_own_leases_rest_is_recalled_too(self, leases, desk, books):
        await books.fund(1_000)
        await hold(leases, desk, 10)
        assert await hold(leases, desk, 990)

    async def test_two_gateways_admit_exactly_what_the_balance_covers(self, start, desk, books, database_url):
        await books.fund(50 * 10)
        async with (
            make_pool(database_url, size_max=4) as first,
            make_pool(database_url, size_max=4) as second,
        ):
            gateways = [await start(on=first), await start(on=second)]
            outcomes = await asyncio.gather(
                *[hold(gateways[turn % 2], desk, 10) for turn in range(200)], return_exceptions=True
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, InsufficientFunds)]
            assert (len(outcomes) - len(refused), len(refused)) == (50, 150)
            assert await books.columns("customer_balance") == (0, 500, 500, 0)
            for gateway in gateways:
                await gateway.stop()

    async def test_a_blocked_organization_is_forbidden_from_the_next_request_on(self, leases, desk, books):
        await books.fund(10_000)
        await hold(leases, desk, 10)
        await books.fetch("select billing_block_set(%s, 'a dispute', null)", books.organization_id)

        async def is_refused():
            try:
                await hold(leases, desk, 10)
            except Forbidden as error:
                return "blocked" in error.message
            return False

        await until(is_refused)


class TestBudgets:
    async def test_the_refusal_names_the_budget_and_its_figures(self, start, desk, books):
        await books.fund(10_000)
        await desk.limit("api_key", desk.api_key_id, "daily", 100)
        leases = await start()
        request_id = new_id()
        await hold(leases, desk, 80, request_id)
        with pytest.raises(BudgetExceeded) as refusal:
            await hold(leases, desk, 21)
        error = refusal.value
        assert (error.status, error.code, error.scope, error.period) == (
            402,
            "budget_exceeded",
            "api_key",
            "daily",
        )
        assert (error.limit, error.spent) == (Money(100), Money(0))
        for said in ("daily", str(Money(100)), str(Money(80)), show(Prefix.API_KEY, desk.api_key_id)):
            assert said in error.message

    async def test_other_keys_go_on(self, leases, desk, books):
        await books.fund(10_000)
        await desk.limit("api_key", desk.api_key_id, "daily", 10)
        with pytest.raises(BudgetExceeded):
            await hold(leases, desk, 11)
        assert await hold(leases, desk, 11, api_key_id=new_id())

    async def test_a_lowered_limit_takes_effect_within_seconds(self, leases, desk, books):
        await books.fund(100_000)
        await desk.limit("project", desk.project_id, "monthly", 50_000)
        await hold(leases, desk, 10)
        await desk.limit("project", desk.project_id, "monthly", 10)

        async def is_refused():
            try:
                await hold(leases, desk, 1)
            except BudgetExceeded:
                return True
            return False

        await until(is_refused, timeout_s=3)

    async def test_a_new_budget_takes_effect_on_running_leases(self, leases, desk, books):
        await books.fund(100_000)
        lease_id = await hold(leases, desk, 10)
        budget_id = await desk.limit("organization", books.organization_id, "lifetime", 50_000)

        async def counts():
            await hold(leases, desk, 1)
            return await desk.counted(budget_id) != (0, 0)

        await until(counts, timeout_s=3)
        assert lease_id != await hold(leases, desk, 1)

    async def test_a_missed_notification_is_made_up_by_the_renewal(self, start, desk, books):
        await books.fund(100_000)
        leases = await start(replace(LIMITS, renew_every_s=0.2))
        leases._presence._on_recall = lambda _: None
        await hold(leases, desk, 10)
        await desk.limit("organization", books.organization_id, "lifetime", 10)

        async def is_refused():
            try:
                await hold(leases, desk, 11)
            except BudgetExceeded:
                return True
            return False

        await until(is_refused, timeout_s=5)


class TestCancellation:
    async def test_a_client_that_leaves_while_a_slice_is_on_its_way_leaves_nothing_reserved(
        self, leases, desk, books
    ):
        await books.fund(1_000)
        async with account_locked(books):
            task = asyncio.ensure_future(hold(leases, desk, 10))
            await until(lambda: waits_for_a_lock(books))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until_idle(leases)
        assert not leases._book.reservations

    async def test_a_client_that_leaves_while_its_own_lease_is_on_its_way_gives_it_back(
        self, leases, desk, books
    ):
        await books.fund(100)
        with pytest.raises(InsufficientFunds):
            await hold(leases, desk, 101)  # From now on request by request.
        async with account_locked(books):
            task = asyncio.ensure_future(hold(leases, desk, 90))
            await until(lambda: waits_for_a_lock(books))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def is_back():
            closed = await books.value(
                "select count(*) from credit_lease where organization_id = %s and closed_at is not null",
                books.organization_id,
            )
            return closed == 1 and await pending(books) == 0

        await until(is_back)


async def until_idle(leases):
    async with asyncio.timeout(30):
        while leases.gate._growth._growing:
            await asyncio.sleep(0.01)


class TestOutage:
    async def test_a_gateway_that_never_saw_the_database_is_unavailable_in_time(self, desk):
        """Nothing listens on port 1."""
        async with make_pool("postgresql://raymart@127.0.0.1:1/raymart", size_max=1) as pool:
            leases = GatewayLeases(pool, pool.conninfo, limits=replace(LIMITS, statement_timeout_s=0.5))
            async with asyncio.timeout(20):
                with pytest.raises(Unavailable):
                    await hold(leases, desk, 1)

    async def test_requests_are_admitted_from_the_slice_until_its_local_deadline(
        self, desk, books, database_url
    ):
        await books.fund(10_000)
        limits = replace(
            LIMITS, slice_min=1_000, ttl_s=5.0, renew_every_s=0.5, margin_s=0.5, statement_timeout_s=1.0
        )
        pool = make_pool(database_url, size_max=2)
        await pool.open()
        leases = GatewayLeases(pool, database_url, limits=limits)
        await leases.start()
        await hold(leases, desk, 1)
        taken_at = asyncio.get_running_loop().time()
        await pool.close(timeout=0)  # From now on no statement gets through.
        await hold(leases, desk, 1)

        async def is_over():
            try:
                await hold(leases, desk, 1)
            except Unavailable:
                return True
            return False

        await until(is_over, timeout_s=20)
        # By its clock after 4.5 s; the upper bound is for a busy machine.
        assert 3.5 < asyncio.get_running_loop().time() - taken_at < 20
        await leases.stop()
