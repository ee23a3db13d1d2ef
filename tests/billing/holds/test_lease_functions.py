"""The functions of leases: what is held, who is refused and by which name, and that each step counts once."""

import asyncio

import psycopg
import pytest

from raymart_core.ids import new_id
from support.leases import Lease, LeaseDesk, refusal


@pytest.fixture
def desk(books):
    return LeaseDesk(books)


class TestTake:
    async def test_a_lease_is_a_hold_in_the_ledger(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        assert await desk.take(lease_id, 100, wanted=400) == 400
        assert await books.columns("customer_balance") == (0, 1_000, 400, 0)
        assert await books.columns("usage_clearing") == (0, 0, 0, 400)
        assert await desk.lease(lease_id) == Lease(400, 0, 1, 1, True)
        assert await books.fetch(
            "select code, state, amount from transfer where key = %s", f"lease:{lease_id}:1"
        ) == [("usage_hold", "pending", 400)]

    async def test_growing_opens_the_next_generation(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 400)
        assert await desk.take(lease_id, 100, wanted=300, step=2) == 300
        assert await desk.lease(lease_id) == Lease(700, 0, 2, 2, True)
        assert (await books.columns("customer_balance")).debits_pending == 700

    async def test_a_repeated_step_grants_the_same_and_no_more(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        for _ in range(3):
            assert await desk.take(lease_id, 100, wanted=300) == 300
        for _ in range(3):
            assert await desk.take(lease_id, 50, step=2) == 50
        assert (await desk.lease(lease_id)).held == 350

    async def test_no_more_than_the_share_of_what_is_available_is_granted(self, desk, books):
        await books.fund(1_000)
        assert await desk.take(new_id(), 10, wanted=900, share=4) == 250

    async def test_more_than_the_share_is_had_for_a_single_request_only(self, desk, books):
        await books.fund(1_000)
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await desk.take(new_id(), 251, share=4)
        assert refusal(refused.value)[0] == "lease_within_share"
        assert await desk.take(new_id(), 251, share=4, single_use=True) == 251

    async def test_too_little_balance_is_refused_with_what_there_is_and_who_else_has_leases(
        self, desk, books
    ):
        await books.fund(1_000)
        await desk.take(new_id(), 600)
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await desk.take(new_id(), 401, single_use=True)
        assert refusal(refused.value) == ("lease_within_balance", {"available": 400, "elsewhere": 1})
        assert (await books.columns("customer_balance")).debits_pending == 600

    async def test_who_never_had_credit_is_refused_and_no_account_is_opened(self, desk, books):
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await desk.take(new_id(), 1)
        assert refusal(refused.value) == ("lease_within_balance", {"available": 0, "elsewhere": 0})
        assert not await books.fetch(
            "select 1 from ledger_account where owner_id = %s", books.organization_id
        )

    async def test_a_blocked_organization_is_refused_until_it_is_lifted(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 10)
        await books.fetch("select billing_block_set(%s, 'dispute', null)", books.organization_id)
        for lease in (lease_id, new_id()):
            with pytest.raises(psycopg.errors.CheckViolation) as refused:
                await desk.take(lease, 1, step=2 if lease == lease_id else 1)
            assert refusal(refused.value)[0] == "lease_not_blocked"
        assert await books.value("select billing_block_lift(%s)", books.organization_id)
        assert await desk.take(new_id(), 1) == 1

    @pytest.mark.parametrize(
        "change",
        ["select lease_recall(%(organization)s)", "select lease_return(%(gateway)s, array[%(lease)s], array[2], array[0]::bigint[], array[true])"],
    )  # fmt: skip
    async def test_a_recalled_or_closed_lease_does_not_grow(self, desk, books, change):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 10)
        async with books.pool.connection() as connection:
            names = {"organization": books.organization_id, "gateway": desk.gateway_id, "lease": lease_id}
            await connection.execute(change.encode(), names)
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await desk.take(lease_id, 10, step=3)
        assert refusal(refused.value)[0] == "lease_is_open"

    async def test_another_gateway_cannot_grow_it(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 10)
        with pytest.raises(psycopg.errors.CheckViolation):
            await desk.take(lease_id, 10, step=2, gateway_id=new_id())

    @pytest.mark.parametrize(("needed", "ttl"), [(0, "1 minute"), (-5, "1 minute"), (5, "0"), (5, "2 days")])
    async def test_nonsense_is_refused(self, desk, books, needed, ttl):
        await books.fund(1_000)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            await desk.take(new_id(), needed, wanted=100, ttl=ttl)

    async def test_the_largest_amount_that_there_is_is_refused_in_good_order(self, desk, books):
        await books.fund(1_000)
        with pytest.raises(psycopg.errors.CheckViolation):
            await desk.take(new_id(), 2**63 - 1)
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            await books.value("select %s::bigint", 2**63)


class TestReturn:
    async def test_a_part_is_given_back_once_by_its_step(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 500)
        for expected in (1, 0, 0):
            assert await desk.give_back(lease_id, 200, step=2) == expected
        assert await desk.lease(lease_id) == Lease(300, 0, 2, 2, True)
        assert (await books.columns("customer_balance")).debits_pending == 300

    async def test_a_lease_named_twice_in_one_call_takes_one_step(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 500)
        changed = await books.value(
            "select lease_return(%s, %s, array[2, 3], array[100, 100]::bigint[], array[true, false])",
            desk.gateway_id,
            [lease_id, lease_id],
        )
        assert (changed, await desk.lease(lease_id)) == (1, Lease(0, 0, 1, 2, False))

    async def test_closing_gives_everything_back(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 500)
        assert await desk.give_back(lease_id, step=2, closes=True) == 1
        assert await desk.give_back(lease_id, step=3, closes=True) == 0
        assert await desk.lease(lease_id) == Lease(0, 0, 1, 2, False)
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)


class TestRenew:
    async def test_all_open_leases_of_the_gateway_live_on_and_tell_how_they_stand(self, desk, books):
        await books.fund(1_000)
        one, two, closed = new_id(), new_id(), new_id()
        for lease_id in (one, two, closed):
            await desk.take(lease_id, 100, ttl="1 second")
        await desk.give_back(closed, step=2, closes=True)
        await desk.capture({new_id(): 30}, one)
        await books.fetch("select lease_recall(%s)", books.organization_id)
        rows = await books.fetch(
            "select lease_id, held, charged, is_recalled, left_s from lease_renew(%s, '1 minute')",
            desk.gateway_id,
        )
        assert [row[:4] for row in sorted(rows)] == [(one, 70, 30, True), (two, 100, 0, True)]
        assert all(59 < row[4] <= 60 for row in rows)


class TestCapture:
    async def test_usages_of_a_lease_resolve_its_hold_for_their_sum_and_the_rest_is_the_next(
        self, desk, books
    ):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 500)
        posted = await desk.capture({new_id(): 100, new_id(): 50}, lease_id)
        assert posted == {"usage_charge": (1, 150), "usage_earning": (2, 135), "usage_fee": (2, 15)}
        assert await desk.lease(lease_id) == Lease(350, 150, 2, 1, True)
        assert await books.columns("customer_balance") == (150, 1_000, 350, 0)
        assert await books.columns("usage_clearing") == (150, 150, 0, 350)

    async def test_a_request_is_captured_once(self, desk, books):
        await books.fund(1_000)
        lease_id, request_id = new_id(), new_id()
        await desk.take(lease_id, 500)
        await desk.capture({request_id: 100}, lease_id)
        assert await desk.capture({request_id: 100}, lease_id) == {}
        assert (await desk.lease(lease_id)).held == 400

    async def test_a_lease_that_is_used_up_holds_nothing_and_can_grow_again(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        await desk.capture({new_id(): 100}, lease_id)
        assert await desk.lease(lease_id) == Lease(0, 100, 1, 1, True)
        assert await desk.take(lease_id, 40, step=2) == 40
        await desk.capture({new_id(): 10}, lease_id)
        assert await desk.lease(lease_id) == Lease(30, 110, 3, 2, True)

    async def test_a_single_use_lease_closes_and_gives_back_the_rest(self, desk, books):
        await books.fund(1_000)
        request_id = new_id()
        await desk.take(request_id, 500, single_use=True)
        assert await desk.capture({request_id: 120}, request_id) == {
            "usage_charge": (1, 120), "usage_earning": (1, 108), "usage_fee": (1, 12)
        }  # fmt: skip
        assert await desk.lease(request_id) == Lease(0, 120, 1, 1, False)
        assert await books.columns("customer_balance") == (120, 1_000, 0, 0)

    async def test_what_the_lease_does_not_cover_comes_from_the_balance(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        posted = await desk.capture({new_id(): 60, new_id(): 60}, lease_id)
        assert posted["usage_charge"] == (2, 120)
        assert await desk.lease(lease_id) == Lease(0, 120, 1, 1, True)
        assert await books.columns("customer_balance") == (120, 1_000, 0, 0)

    async def test_what_neither_lease_nor_balance_covers_is_the_platforms_loss(self, desk, books):
        await books.fund(100)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        posted = await desk.capture({new_id(): 130}, lease_id)
        assert (posted["usage_charge"], posted["usage_shortfall"]) == ((1, 100), (1, 30))
        assert await books.columns("customer_balance") == (100, 100, 0, 0)

    async def test_a_closed_lease_leaves_it_to_the_balance(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        await desk.give_back(lease_id, step=2, closes=True)
        await desk.capture({new_id(): 40}, lease_id)
        assert await desk.lease(lease_id) == Lease(0, 40, 1, 2, False)
        assert await books.columns("customer_balance") == (40, 1_000, 0, 0)

    async def test_one_batch_of_leases_holds_and_neither(self, desk, books):
        await books.fund(1_000)
        lease_id, single, held, neither = new_id(), new_id(), new_id(), new_id()
        await desk.take(lease_id, 300)
        await desk.take(single, 50, single_use=True)
        await books.hold(held, 80)
        charges = {new_id(): 100, single: 20, held: 30, neither: 7}
        await books.capture(charges, leases=[lease_id, single, None, None])
        assert await books.columns("customer_balance") == (157, 1_000, 200, 0)
        assert (await desk.lease(lease_id)).held == 200

    async def test_another_organizations_lease_pays_nothing(self, desk, books, pool):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 500)
        stranger = type(books)(pool)
        await stranger.fund(10)
        await stranger.capture({new_id(): 10}, leases=[lease_id])
        assert (await desk.lease(lease_id)).held == 500
        assert (await stranger.columns("customer_balance")).balance == 0


class TestExpire:
    async def test_only_leases_past_their_time_whose_gateway_is_gone_are_voided(self, desk, books):
        await books.fund(1_000)
        due, running = new_id(), new_id()
        await desk.take(due, 100, ttl="1 microsecond")
        await desk.take(running, 200)
        await asyncio.sleep(0.001)
        number = await books.value("select gateway_register(%s)", desk.gateway_id)
        async with books.pool.connection() as session:
            await session.execute(b"select pg_advisory_lock(gateway_lock_class(), %s)", (number,))
            assert await books.value("select gateway_is_alive(%s)", desk.gateway_id)
            await books.value("select expired from lease_expire(1000, '0')")
            assert (await desk.lease(due)).held == 100
            await session.execute(b"select pg_advisory_unlock_all()")
        assert not await books.value("select gateway_is_alive(%s)", desk.gateway_id)
        assert await books.value("select expired from lease_expire(1000, '0')") >= 1
        assert await desk.lease(due) == Lease(0, 0, 1, 1, False)
        assert (await desk.lease(running)).held == 200
        assert (await books.columns("customer_balance")).debits_pending == 200

    async def test_the_sweep_of_holds_leaves_leases_alone(self, desk, books):
        await books.fund(1_000)
        lease_id = new_id()
        await desk.take(lease_id, 100, ttl="1 microsecond")
        await asyncio.sleep(0.001)
        await books.value("select ledger_expire_holds(1000)")
        assert (await books.columns("customer_balance")).debits_pending == 100

    async def test_nothing_expires_right_after_the_server_came_back(self, desk, books):
        await books.fund(1_000)
        await desk.take(new_id(), 100, ttl="1 microsecond")
        await asyncio.sleep(0.001)
        assert await books.value("select expired from lease_expire(1000, '1 day')") == 0


class TestBudgets:
    @pytest.mark.parametrize("scope", ["organization", "project", "api_key"])
    @pytest.mark.parametrize("period", ["daily", "monthly", "lifetime"])
    async def test_a_lease_reserves_and_usage_spends(self, desk, books, scope, period):
        await books.fund(1_000)
        scope_id = {
            "organization": books.organization_id,
            "project": desk.project_id,
            "api_key": desk.api_key_id,
        }
        budget_id = await desk.limit(scope, scope_id[scope], period, 300)
        lease_id = new_id()
        assert await desk.take(lease_id, 100, wanted=900) == 300
        assert await desk.counted(budget_id) == (0, 300)
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await desk.take(new_id(), 1)
        name, figures = refusal(refused.value)
        assert name == "lease_within_budget"
        assert figures == {
            "scope": scope, "scope_id": str(scope_id[scope]), "period": period, "limit": 300, "spent": 0,
            "reserved": 300, "elsewhere": 1,
        }  # fmt: skip
        await desk.capture({new_id(): 120}, lease_id)
        assert await desk.counted(budget_id) == (120, 180)
        await desk.give_back(lease_id, step=2, closes=True)
        assert await desk.counted(budget_id) == (120, 0)

    async def test_the_tightest_of_several_budgets_decides_and_all_count(self, desk, books):
        await books.fund(10_000)
        wide = await desk.limit("organization", books.organization_id, "monthly", 5_000)
        tight = await desk.limit("api_key", desk.api_key_id, "daily", 200)
        other = await desk.limit("project", new_id(), "daily", 1)
        lease_id = new_id()
        assert await desk.take(lease_id, 1, wanted=9_000) == 200
        assert [await desk.counted(each) for each in (wide, tight, other)] == [(0, 200), (0, 200), (0, 0)]

    async def test_usage_after_the_lease_was_closed_still_counts(self, desk, books):
        await books.fund(1_000)
        budget_id = await desk.limit("api_key", desk.api_key_id, "daily", 300)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        await desk.give_back(lease_id, step=2, closes=True)
        await desk.capture({new_id(): 40}, lease_id)
        assert await desk.counted(budget_id) == (40, 0)

    async def test_a_single_use_lease_frees_what_it_did_not_use(self, desk, books):
        await books.fund(1_000)
        budget_id = await desk.limit("project", desk.project_id, "lifetime", 300)
        request_id = new_id()
        await desk.take(request_id, 250, single_use=True)
        await desk.capture({request_id: 200}, request_id)
        assert await desk.counted(budget_id) == (200, 0)

    async def test_a_change_of_a_budget_recalls_the_organizations_leases(self, desk, books):
        await books.fund(1_000)
        leases = [new_id(), new_id()]
        await desk.take(leases[0], 100)
        budget_id = await desk.limit("api_key", desk.api_key_id, "daily", 300)
        await desk.take(leases[1], 100)
        assert await desk.limit("api_key", desk.api_key_id, "daily", 50) == budget_id
        recalled = await books.fetch(
            "select id, recalled_at is not null from credit_lease where id = any(%s) order by id", leases
        )
        assert recalled == [(leases[0], True), (leases[1], True)]

    async def test_a_removed_budget_limits_nothing_and_its_leases_still_work(self, desk, books):
        await books.fund(1_000)
        budget_id = await desk.limit("api_key", desk.api_key_id, "daily", 100)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        assert await books.value("select budget_remove(%s, %s)", budget_id, books.organization_id)
        assert not await books.value("select budget_remove(%s, %s)", budget_id, books.organization_id)
        await desk.capture({new_id(): 30}, lease_id)
        assert await desk.take(new_id(), 500) == 500

    async def test_a_lease_ends_with_its_shortest_period(self, desk, books):
        await books.fund(1_000)
        await desk.limit("organization", books.organization_id, "monthly", 500)
        await desk.limit("api_key", desk.api_key_id, "daily", 500)
        lease_id = new_id()
        await desk.take(lease_id, 100)
        assert await books.value(
            "select ends_at = ((clock_timestamp() at time zone 'utc')::date + 1)::timestamp at time zone 'utc'"
            " from credit_lease where id = %s",
            lease_id,
        )

    @pytest.mark.parametrize(
        ("period", "instant", "begins", "ends"),
        [
            ("daily", "2026-03-31 23:59:59+00", "2026-03-31", "2026-04-01 00:00:00+00"),
            ("daily", "2026-03-31 23:30:00-02", "2026-04-01", "2026-04-02 00:00:00+00"),
            ("monthly", "2026-12-31 23:59:59+00", "2026-12-01", "2027-01-01 00:00:00+00"),
            ("monthly", "2026-02-01 00:00:00+00", "2026-02-01", "2026-03-01 00:00:00+00"),
            ("lifetime", "2026-02-01 00:00:00+00", "1970-01-01", None),
        ],
    )
    async def test_periods_are_those_of_utc(self, books, period, instant, begins, ends):
        assert await books.fetch(
            "select budget_starts_on(%s, %s::timestamptz) = %s::date,"
            " budget_ends_at(%s, %s::date) is not distinct from %s::timestamptz",
            period, instant, begins, period, begins, ends,
        ) == [(True, True)]  # fmt: skip


class TestGuards:
    @pytest.mark.parametrize(
        "table", ["gateway", "credit_lease", "budget", "budget_period", "lease_budget", "billing_block"]
    )
    @pytest.mark.parametrize(
        "statement", ["delete from {}", "truncate {} cascade", "insert into {} default values"]
    )
    async def test_nobody_writes_but_the_functions(self, books, table, statement):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await books.fetch(statement.format(table))

    @pytest.mark.parametrize(
        "column",
        ["credit_lease set held = 5", "budget_period set spent = 0", "budget set limit_nano_usd = 9"],
    )
    async def test_nobody_updates_but_the_functions(self, books, column):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await books.fetch(f"update {column}")

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_a_limit_is_more_than_nothing(self, desk, books, limit):
        with pytest.raises(psycopg.errors.CheckViolation):
            await desk.limit("organization", books.organization_id, "daily", limit)
