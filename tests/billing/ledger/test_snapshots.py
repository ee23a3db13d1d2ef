"""Daily snapshots, the cheap check they allow, and the alarm."""

import asyncio

import psycopg
import pytest
from sqlalchemy import text

from raymart_billing.ledger import check_drift, latest_checks, reconcile, take_snapshot
from raymart_billing.ledger.verify import verify
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.books import fetch
from support.sealed_books import set_back, trade


@pytest.fixture
async def sound_sessions(sound_url):
    engine = make_engine(sound_url, pool_size=10)
    yield make_sessions(engine)
    await engine.dispose()


async def taken(sessions):
    async with session_scope(sessions) as session:
        return await take_snapshot(session)


class TestTakeSnapshot:
    async def test_a_day_has_one_snapshot(self, sound, sound_sessions):
        assert await taken(sound_sessions) is None
        await set_back(sound)
        [[today]] = await fetch(sound, "select (clock_timestamp() at time zone 'UTC')::date")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(taken(sound_sessions)) for _ in range(6)]
        assert sorted(str(task.result()) for task in tasks) == [str(today), *["None"] * 5]

    async def test_only_accounts_that_changed_get_a_row(self, sound, sound_sessions, sound_books):
        await set_back(sound)
        await taken(sound_sessions)
        rows = "select account_id from account_snapshot where day = (select max(day) from ledger_snapshot)"
        first = {account for (account,) in await fetch(sound, rows)}
        await set_back(sound)
        await sound_books.fund(3)
        await taken(sound_sessions)
        assert {account for (account,) in await fetch(sound, rows)} == {
            await sound_books.account_id("customer_balance"),
            await sound_books.account_id("promotional_credit"),
        }
        assert len(first) > 2

    async def test_transactions_that_run_meanwhile_come_after_it(
        self, sound, sound_url, sound_sessions, sound_books
    ):
        """Which side of the cut a transfer is on is a question of its transaction, not of its time or number."""
        await set_back(sound)
        promotion = await sound_books.account_id("promotional_credit")
        balance = await sound_books.account_id("customer_balance")
        async with await psycopg.AsyncConnection.connect(sound_url) as running:
            await fetch(
                running,
                "select ledger_post_batch(array['running'], array[%s::bigint], array[%s::bigint], array[9::bigint],"
                " array['credit_grant'])",
                promotion,
                balance,
            )
            await taken(sound_sessions)
            await running.commit()
        async with session_scope(sound_sessions) as session:
            assert (await reconcile(session)).drifts == []
        assert (await verify(sound, key=None, head=None)).findings == []

    async def test_a_transaction_that_posted_cannot_take_one(self, sound_sessions, sound_books):
        async with sound_sessions() as session:
            await session.execute(
                text(
                    "select ledger_post_batch(array['own'], array[(select id from ledger_account where kind ="
                    " 'promotional_credit')], array[(select min(id) from ledger_account where kind ="
                    " 'customer_balance')], array[1::bigint], array['credit_grant'])"
                )
            )
            with pytest.raises(Exception, match="posted nothing"):
                await take_snapshot(session)

    @pytest.mark.parametrize(
        "table", ["ledger_snapshot", "account_snapshot", "transfer_seal", "ledger_check"]
    )
    @pytest.mark.parametrize("change", ["update {} set {} = {}", "delete from {}", "truncate {}"])
    async def test_its_rows_stay_as_they_are(self, sound, table, change):
        column = {"transfer_seal": "position", "ledger_check": "findings"}.get(table, "day")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await sound.execute(change.format(table, column, column))


class TestReconcile:
    async def test_snapshot_and_transfers_since_make_the_balances(self, sound_sessions, sound_books):
        await trade(sound_books)
        async with session_scope(sound_sessions) as session:
            found = await reconcile(session)
        assert found.drifts == []
        assert found.day is not None

    async def test_before_the_first_snapshot_all_transfers_count(self, sessions, books):
        await books.fund(10)
        async with session_scope(sessions) as session:
            assert (await reconcile(session)).drifts == []

    async def test_a_drift_is_named_kept_and_stands_until_a_check_is_sound(self, sound, sound_sessions):
        shift = "update ledger_account set credits_posted = credits_posted + %s where kind = 'platform_fee'"
        await sound.execute("set session_replication_role = replica")
        await sound.execute(shift, (5,))
        async with session_scope(sound_sessions) as session:
            [drift] = (await check_drift(session)).drifts
        assert drift.stored[1] - drift.recomputed[1] == 5
        async with session_scope(sound_sessions) as session:
            [alarm] = await latest_checks(session)
        assert alarm.findings == 1
        assert "(platform_fee): credits_posted is" in str(alarm.finding)

        await sound.execute(shift, (-5,))
        async with session_scope(sound_sessions) as session:
            await check_drift(session)
            [check] = await latest_checks(session)
        assert (check.findings, check.finding) == (0, None)
