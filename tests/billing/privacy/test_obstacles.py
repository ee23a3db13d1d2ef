"""What stands in the way of an organization's end, seen in transactions that are rolled back."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.privacy.obstacles import obstacles
from raymart_core.ids import new_id
from raymart_marketplace.db.session import make_engine, make_sessions

ACCOUNT = (
    "insert into ledger_account (kind, owner_id, asset, may_overdraw, debits_posted, credits_posted, debits_pending)"
    " values ('{kind}', '{owner}', 'usd', {over}, {debits}, {credits}, {pending})"
)


@pytest.fixture
async def session(owner_url: str) -> AsyncIterator[AsyncSession]:
    """As a superuser without triggers and foreign keys: any state can be written down. Rolled back."""
    engine = make_engine(owner_url, pool_size=1)
    async with make_sessions(engine)() as session:
        await session.execute(text("set local session_replication_role = replica"))
        yield session
        await session.rollback()
    await engine.dispose()


@pytest.fixture
async def organization_id(session: AsyncSession) -> UUID:
    made = new_id()
    await session.execute(
        text(f"insert into organization (id, slug, name, kind) values ('{made}', '{made}', 'O', 'provider')")
    )
    await session.execute(
        text(
            "insert into provider (id, organization_id, slug, name, state)"
            f" values ('{made}', '{made}', '{made}', 'P', 'active')"
        )
    )
    return made


def account(kind: str, *, over: bool, debits: int = 0, credited: int = 0, pending: int = 0) -> str:
    return ACCOUNT.format(
        kind=kind, owner="{id}", over=over, debits=debits, credits=credited, pending=pending
    )


WAYS = {
    "its balance": account("customer_balance", over=False, credited=1),
    "it owes": account("customer_receivable", over=True, debits=1),
    "is disputed": account("customer_dispute", over=False, credited=1),
    "not paid out": account("provider_payable", over=False, credited=1),
    "a reserve": account("provider_reserve", over=False, credited=1),
    "a payout": account("payout_clearing", over=False, credited=1),
    "requests of it": account("customer_balance", over=False, credited=1, pending=1),
    "requests of it are running": (
        "insert into credit_lease (id, gateway_id, organization_id, single_use, expires_at, ends_at)"
        " values ('{id}', '{id}', '{id}', false, now(), now())"
    ),
    "a top-up": (
        "insert into deposit (id, organization_id, rail, state, amount_nano_usd, idempotency_key, expires_at)"
        " values ('{id}', '{id}', 'card', 'pending', 1, 'k', now())"
    ),
    "a draft": (
        "insert into invoice (id, organization_id, state, asset, period_start, period_end, after_transfer_id, up_to_transfer_id, booked_until,"
        " opening_nano_usd, closing_nano_usd, charged_nano_usd)"
        " values ('{id}', '{id}', 'draft', 'usd', '2026-01-01', '2026-02-01', 0, 0, now(), 0, 0, 0)"
    ),
    "close its offers": (
        "insert into offer (id, provider_id, revision_id, state) values ('{id}', '{id}', '{id}', 'paused')"
    ),
    "retire them": (
        "insert into node (id, pool_id, provider_id, role, name, public_key, machine_id, hardware, state)"
        " values ('{id}', '{id}', '{id}', 'node', 'n', sha256('{id}'), 'm', '{{}}', 'offline')"
    ),
    "runs the marketplace": "update organization set kind = 'platform' where id = '{id}'",
}
"""What is said of each state, and what brings it about."""


class TestObstacles:
    async def test_nothing_is_in_the_way_of_one_that_has_settled(
        self, session: AsyncSession, organization_id: UUID
    ) -> None:
        settled = account("customer_balance", over=False, debits=7, credited=7)
        await session.execute(text(settled.format(id=organization_id)))
        assert await obstacles(session, organization_id) == []

    @pytest.mark.parametrize("said", WAYS)
    async def test_each_is_named_with_what_to_do(
        self, session: AsyncSession, organization_id: UUID, said: str
    ) -> None:
        await session.execute(text(WAYS[said].format(id=organization_id)))
        [found] = await obstacles(session, organization_id)
        assert said in found
        assert await obstacles(session, new_id()) == []
