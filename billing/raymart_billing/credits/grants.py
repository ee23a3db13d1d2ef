"""Credit that is given, and what is left of it taken back when its time is over."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits.locking import available_in, lock_accounts
from raymart_billing.credits.models import CreditGrant, GrantSource
from raymart_billing.credits.parts import read_parts, remember
from raymart_billing.ledger import AccountKind, Movement, TransferCode, grant_credit, open_account, post
from raymart_billing.privacy.erasures import refuse_erased
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500
CUSTOMERS_PER_READ = 200


async def grant(
    session: AsyncSession,
    *,
    organization_id: UUID,
    amount: Money,
    key: str,
    actor_id: UUID | None,
    reason: str = "",
    source: GrantSource = GrantSource.ADMIN,
    expires_at: datetime | None = None,
) -> CreditGrant:
    """Give promotional credit until `expires_at`; a repeat with the same `key` returns the first grant.

    Locks the organization's balance and the platform's promotional_credit until the transaction ends.
    Raises: InvalidRequest, Conflict (the key was used for another grant).
    """
    if len(reason) > REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(reason)} characters; the limit is {REASON_CHARACTERS_MAX}", param="reason"
        )
    await refuse_erased(session, organization_id)
    transfer = await grant_credit(
        session, organization_id=organization_id, amount=amount, key=key, actor_id=actor_id
    )
    made = (
        insert(CreditGrant)
        .values(
            id=new_id(),
            organization_id=organization_id,
            transfer_id=transfer.id,
            amount_nano_usd=amount.amount,
            expires_at=expires_at,
            source=source,
            reason=reason.strip(),
            actor_id=actor_id,
        )
        .on_conflict_do_nothing(index_elements=[CreditGrant.transfer_id])
        .returning(CreditGrant)
    )
    new = (await session.scalars(made)).one_or_none()
    if new is None:
        return await _same(session, transfer.id, key=key, expires_at=expires_at)
    if expires_at is not None and expires_at <= new.created_at:
        raise InvalidRequest(f"expires_at {expires_at.isoformat()} is in the past", param="expires_at")
    return new


async def expire_due(sessions: Sessions) -> int:
    """Take back what is left of all grants whose time is over; returns nano-USD taken. Idempotent.

    One transaction per customer. What is held for running requests stays until it is released, and the next run takes it.
    """
    taken, after = 0, UUID(int=0)
    while True:
        async with session_scope(sessions) as session:
            due = await _customers_due(session, after=after)
        for organization_id in due:
            async with session_scope(sessions) as session:
                taken += await expire_grants(session, organization_id)
        if len(due) < CUSTOMERS_PER_READ:
            return taken
        after = due[-1]


async def expire_grants(session: AsyncSession, organization_id: UUID) -> int:
    """Take back what is left of the customer's grants that are over, at most what is not held; returns nano-USD.

    Locks the balance and the platform's promotional_credit until the transaction ends.
    """
    balance_id = await open_account(session, AccountKind.CUSTOMER_BALANCE, organization_id)
    promotion_id = await open_account(session, AccountKind.PROMOTIONAL_CREDIT)
    accounts = await lock_accounts(session, [balance_id, promotion_id])
    now = await session.scalar(select(func.clock_timestamp()))
    assert now is not None, "the database has a clock"
    reading = await read_parts(session, organization_id)
    await remember(session, organization_id, reading)
    available, movements = available_in(accounts[balance_id]), []
    for part in reading.parts.grants:
        if part.expires_at is None or part.expires_at > now:
            break  # They are in the order of their ends.
        amount = min(part.left, available)
        if amount == 0:
            break
        available -= amount
        movements.append(
            Movement(
                # What was left before names the step: a repeat of the same step is the same transfer.
                key=f"credit_expired:{part.transfer_id}:{part.left}",
                debit_account_id=balance_id,
                credit_account_id=promotion_id,
                amount=Money(amount),
                code=TransferCode.CREDIT_EXPIRED,
            )
        )
    if movements:
        await post(session, movements)
    await _close(session, organization_id, now=now)
    taken = sum(movement.amount.amount for movement in movements)
    if taken:
        log.info("credit.expired", organization_id=str(organization_id), amount_nano_usd=taken)
    return taken


async def _same(
    session: AsyncSession, transfer_id: int, *, key: str, expires_at: datetime | None
) -> CreditGrant:
    found = (await session.scalars(select(CreditGrant).where(CreditGrant.transfer_id == transfer_id))).one()
    if found.expires_at != expires_at:
        raise Conflict(
            f"key {key!r} was used for a grant with another end; use a new key for a new grant", param="key"
        )
    return found


async def _customers_due(session: AsyncSession, *, after: UUID) -> Sequence[UUID]:
    query = (
        select(CreditGrant.organization_id)
        .where(
            CreditGrant.closed_at.is_(None),
            CreditGrant.expires_at <= func.clock_timestamp(),
            CreditGrant.organization_id > after,
        )
        .distinct()
        .order_by(CreditGrant.organization_id)
        .limit(CUSTOMERS_PER_READ)
    )
    return (await session.scalars(query)).all()


async def _close(session: AsyncSession, organization_id: UUID, *, now: datetime) -> None:
    """Note which ended grants nothing is left of, so that no later run looks at them."""
    parts = (await read_parts(session, organization_id)).parts
    left = [part.transfer_id for part in parts.grants]
    ended = update(CreditGrant).where(
        CreditGrant.organization_id == organization_id,
        CreditGrant.closed_at.is_(None),
        CreditGrant.expires_at <= now,
        CreditGrant.transfer_id.not_in(left),
    )
    await session.execute(ended.values(closed_at=func.clock_timestamp()))
