"""The trial balance is true of sound books, and names what is wrong with others.

The others are made within a transaction that is rolled back, by a superuser who switches the triggers off: what the
guards cannot prevent, the trial balance has to find.
"""

import pytest
from sqlalchemy import text

from raymart_billing.ledger import AccountKind, trial_balance
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import make_engine, session_scope
from support.own_database import database_url, owner_url

__all__ = ["database_url", "owner_url"]


@pytest.fixture
async def engine(owner_url):
    """An engine of the superuser: the runtime's role cannot switch off a trigger."""
    engine = make_engine(owner_url, pool_size=5)
    yield engine
    await engine.dispose()


async def verdict_after(sessions, *tampering: str):
    async with sessions() as session:
        await session.execute(text("set local session_replication_role = replica"))
        for statement in tampering:
            await session.execute(text(statement))
        found = await trial_balance(session)
        await session.rollback()
    return found


@pytest.fixture
async def busy_books(books):
    """One customer with a grant, an open hold, a released one and a captured usage."""
    await books.fund(1_000)
    used, gone = new_id(), new_id()
    await books.hold(new_id(), 100)
    await books.hold(gone, 100)
    await books.hold(used, 500)
    await books.value("select ledger_void_hold(%s)", f"hold:{gone}")
    await books.capture({used: 200})
    return books


class TestTrialBalance:
    async def test_sound_books_balance(self, sessions, busy_books):
        async with session_scope(sessions) as session:
            found = await trial_balance(session)
        assert found.balanced
        assert found.debits == found.credits == found.transferred > Money(0)
        assert found.drift == Money(0)
        rows = {row.kind: row for row in found.rows}
        assert rows[AccountKind.USAGE_CLEARING].balance == Money(0)
        assert sum(row.balance.amount for row in found.rows) == 0

    async def test_another_asset_has_books_of_its_own(self, sessions, busy_books):
        async with session_scope(sessions) as session:
            found = await trial_balance(session, asset=Asset.USDC)
        assert found.balanced
        assert found.debits == Money(0, Asset.USDC)

    @pytest.mark.parametrize(
        "column", ["debits_posted", "credits_posted", "debits_pending", "credits_pending"]
    )
    async def test_a_balance_edited_by_hand_is_named(self, sessions, busy_books, column):
        account_id = await busy_books.account_id("customer_balance")
        found = await verdict_after(
            sessions, f"update ledger_account set {column} = {column} + 7 where id = {account_id}"
        )
        assert not found.balanced
        [drift] = found.drifts
        assert drift.account_id == account_id
        assert getattr(drift, column) == 7
        assert found.drift == Money(7)

    async def test_an_edited_transfer_shows_on_both_of_its_accounts(self, sessions, busy_books):
        found = await verdict_after(
            sessions,
            "update transfer set amount = amount + 1 where id = (select max(id) from transfer where code = 'usage_earning')",
        )
        assert not found.balanced
        assert {drift.account_id for drift in found.drifts} == {
            await busy_books.account_id("usage_clearing"),
            await busy_books.account_id("provider_payable"),
        }

    async def test_a_deleted_resolution_brings_its_hold_back(self, sessions, busy_books):
        found = await verdict_after(
            sessions, "delete from transfer where id = (select max(id) from transfer where state = 'voided')"
        )
        assert not found.balanced
        assert found.drift == Money(200)

    async def test_a_clearing_account_that_keeps_money_is_named(self, sessions, busy_books):
        """Both sides are changed, so that only the clearing rule can notice."""
        clearing = await busy_books.account_id("usage_clearing")
        payable = await busy_books.account_id("provider_payable")
        found = await verdict_after(
            sessions,
            "delete from transfer where id = (select max(id) from transfer where code = 'usage_earning')",
            f"update ledger_account set debits_posted = debits_posted - 180 where id = {clearing}",
            f"update ledger_account set credits_posted = credits_posted - 180 where id = {payable}",
        )
        assert found.drifts == ()
        assert found.uncleared == (clearing,)
        assert not found.balanced
