"""Corrections of a customer's balance by hand: an administrator, a reason, one transfer."""

from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits.models import BalanceAdjustment
from raymart_billing.ledger import (
    AccountKind,
    Movement,
    TransferCode,
    open_account,
    post,
    transfer_by_key,
)
from raymart_billing.privacy.erasures import refuse_erased
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500
KEY_CHARACTERS_MAX = 128


async def adjust_balance(
    session: AsyncSession, *, organization_id: UUID, change: Money, key: str, reason: str, actor_id: UUID
) -> BalanceAdjustment:
    """Add `change` to the balance, or take it away when it is below zero; a repeat of `key` gives the first adjustment.

    Never below what is held for requests. Locks the balance and the platform's counterpart. Raises: InvalidRequest,
    InsufficientFunds, Conflict (the key was used for another adjustment).
    """
    checked = _checked(change, key, reason)
    await refuse_erased(session, organization_id)
    movement = await _movement(session, organization_id, change, key)
    try:
        await post(session, [movement], actor_id=actor_id)
    except Conflict as error:
        raise Conflict(
            f"key {key!r} was used for another adjustment; use a new key", param="idempotency_key"
        ) from error
    transfer = await transfer_by_key(session, movement.key)
    assert transfer is not None, f"no transfer {movement.key!r} after it was posted"
    made = insert(BalanceAdjustment).values(
        id=new_id(),
        organization_id=organization_id,
        transfer_id=transfer.id,
        change_nano_usd=change.amount,
        reason=checked,
        actor_id=actor_id,
    )
    await session.execute(made.on_conflict_do_nothing(index_elements=[BalanceAdjustment.transfer_id]))
    log.info(
        "balance.adjusted",
        organization_id=str(organization_id),
        change_nano_usd=change.amount,
        actor_id=str(actor_id),
    )
    found = select(BalanceAdjustment).where(BalanceAdjustment.transfer_id == transfer.id)
    return (await session.scalars(found)).one()


async def _movement(session: AsyncSession, organization_id: UUID, change: Money, key: str) -> Movement:
    balance_id = await open_account(session, AccountKind.CUSTOMER_BALANCE, organization_id)
    await open_account(session, AccountKind.USAGE_CLEARING, organization_id)
    in_favour = change.amount > 0
    counterpart = AccountKind.PLATFORM_REFUND if in_favour else AccountKind.PLATFORM_REVENUE
    counterpart_id = await open_account(session, counterpart)
    return Movement(
        key=f"adjustment:{key}",
        debit_account_id=counterpart_id if in_favour else balance_id,
        credit_account_id=balance_id if in_favour else counterpart_id,
        amount=Money(abs(change.amount)),
        code=TransferCode.ADJUSTMENT_CREDIT if in_favour else TransferCode.ADJUSTMENT_DEBIT,
    )


def _checked(change: Money, key: str, reason: str) -> str:
    """The reason as it is kept. Raises: InvalidRequest."""
    checked = reason.strip()
    if not 1 <= len(checked) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(checked)} characters; give 1 to {REASON_CHARACTERS_MAX}, it is kept for good",
            param="reason",
        )
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", param="idempotency_key"
        )
    if change.asset is not Asset.USD or change.amount == 0:
        raise InvalidRequest(
            f"an adjustment of {change} changes nothing; give US dollars, not 0", param="amount"
        )
    return checked
