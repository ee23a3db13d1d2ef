"""Each sign is quiet while all is well and shows its trouble. The troubles are made in a transaction that is undone."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.records import copy_requests
from raymart_billing.vital_signs import SIGNS, read_signs
from raymart_core.ids import new_id
from raymart_marketplace.db.session import make_engine, make_sessions


@pytest.fixture
async def session(owner_url: str) -> AsyncIterator[AsyncSession]:
    """A transaction of the owner that ends in a rollback, with the tables that are watched emptied."""
    engine = make_engine(owner_url, pool_size=1)
    async with make_sessions(engine)() as session:
        # References are not checked: only what is counted is made.
        await session.execute(text("set local session_replication_role = replica"))
        for table in (
            "ledger_check",
            "usage_set_aside",
            "outbox",
            "credit_lease",
            "usdc_refund",
            "usdc_deposit",
            "usdc_scan",
        ):
            await session.execute(text(f"delete from {table}"))
        yield session
        await session.rollback()
    await engine.dispose()


async def signs(session: AsyncSession) -> dict[str, float]:
    return {
        reading.name + (f"/{reading.label}" if reading.label else ""): reading.value
        for reading in await read_signs(session)
    }


class TestReadSigns:
    async def test_every_reading_is_a_sign_that_is_explained(self, session):
        await session.execute(
            text("insert into ledger_check (kind, duration_ms, findings) values ('seal', 1, 0)")
        )
        await session.execute(text("insert into usdc_scan (account, scanned_at) values ('a', now())"))
        assert {reading.name for reading in await read_signs(session)} == {sign.name for sign in SIGNS}

    async def test_nothing_wrong_is_zero(self, session):
        found = await signs(session)
        found.pop("raymart_usage_unposted_age_seconds")  # Other tests leave such usage behind.
        assert set(found.values()) == {0}

    async def test_newest_check_of_each_kind_counts(self, session):
        for kind, findings in (("reconcile", 3), ("seal", 0), ("reconcile", 2)):
            await session.execute(
                text(
                    "insert into ledger_check (kind, duration_ms, findings, finding, checked_at)"
                    " values (:kind, 1, :findings, case when :findings > 0 then 'x' end,"
                    " clock_timestamp() - interval '1 minute')"
                ),
                {"kind": kind, "findings": findings},
            )
        found = await signs(session)
        assert found["raymart_ledger_findings/reconcile"] == 2
        assert found["raymart_ledger_findings/seal"] == 0
        assert 60 <= found["raymart_ledger_check_age_seconds/reconcile"] < 90

    async def test_recorded_and_unposted_usage_ages(self, pool, books, session):
        async with pool.connection() as connection:
            await copy_requests(connection, [books.finished()], may_exist=False)
        assert (await signs(session))["raymart_usage_unposted_age_seconds"] > 0

    async def test_set_aside_records_are_counted(self, session):
        await session.execute(
            text(
                "insert into usage_set_aside (digest, origin, reason, record)"
                " values (sha256('a'), 'file', 'unreadable', 'a')"
            )
        )
        assert (await signs(session))["raymart_usage_set_aside_records"] == 1

    @pytest.mark.parametrize(
        ("state", "ended", "overdue_s", "dead"), [("ready", None, 90, 0), ("dead", "clock_timestamp()", 0, 1)]
    )
    async def test_late_and_dead_work(self, session, state, ended, overdue_s, dead):
        await session.execute(
            text(
                "insert into outbox (id, task, subject, state, due_at, finished_at) values"
                f" (:id, 't', 's', :state, clock_timestamp() - interval '90 s', {ended or 'null'})"
            ),
            {"id": new_id(), "state": state},
        )
        found = await signs(session)
        assert overdue_s <= found["raymart_work_overdue_seconds"] < overdue_s + 30
        assert found["raymart_work_dead"] == dead

    async def test_lease_nobody_gave_back_is_overdue(self, session):
        await session.execute(
            text(
                "insert into credit_lease (id, gateway_id, organization_id, single_use, expires_at) values"
                " (:id, :id, :id, false, clock_timestamp() - interval '7 minutes')"
            ),
            {"id": new_id()},
        )
        assert 420 <= (await signs(session))["raymart_lease_overdue_seconds"] < 450

    async def test_a_treasury_that_nobody_reads_and_one_that_holds_another_amount(self, session):
        await session.execute(
            text(
                "insert into usdc_scan (account, scanned_at, gap_micro_usdc) values"
                " ('a', clock_timestamp() - interval '3 minutes', -7), ('b', clock_timestamp(), 5)"
            )
        )
        found = await signs(session)
        assert 180 <= found["raymart_usdc_scan_age_seconds"] < 210
        assert found["raymart_usdc_gap_micro_usdc"] == 7

    async def test_the_oldest_payment_that_waits_for_a_person_ages(self, session):
        for hours in (5, 1):
            await session.execute(
                text(
                    "insert into usdc_deposit (id, signature, account, mint, amount_micro_usdc, state, slot, sources,"
                    " final_at) values (:id, :signature, repeat('a', 40), 'm', 1, 'final', 1, '[]',"
                    " clock_timestamp() - make_interval(hours => :hours))"
                ),
                {"id": new_id(), "signature": str(hours) * 80, "hours": hours},
            )
        assert 18_000 <= (await signs(session))["raymart_usdc_undecided_age_seconds"] < 18_030
