"""Cancelling a batch of earnings: every payee's money goes back to its balance, and is planned again with the next epoch.

Only what was never signed can be cancelled. The request marks the batch, a worker gives the money back in chunks.
"""

from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, post
from raymart_billing.payouts.batches import BEING_CANCELLED, lock_batch, refuse_machinerys
from raymart_billing.payouts.models import (
    BatchKind,
    BatchState,
    ItemState,
    PayoutAttempt,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.payable import CHUNK_PROVIDERS, lock_accounts
from raymart_billing.payouts.planning import NANO_USD_PER_MICRO_USDC
from raymart_billing.payouts.refusals import in_words
from raymart_billing.work import outbox
from raymart_core.errors import Conflict
from raymart_core.money import Money
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.oversight.models import REASON_CHARACTERS_MAX
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()

CANCEL_TASK: Final = "payouts.cancel"
"""Its subject is the batch's id."""
_FINAL = frozenset({BatchState.SENDING, BatchState.FINALIZED, BatchState.CANCELLED})


async def cancel_batch(
    session: AsyncSession, batch_id: UUID, *, reason: str, actor_id: UUID | None
) -> PayoutBatch:
    """Hold the batch for good and ask for its money to be given back; it is `cancelled` when that is done.

    Raises: InvalidRequest, NotFound, Conflict (something was signed; being planned; it is a top-up's refund).
    """
    checked = checked_reason(reason)
    batch = await lock_batch(session, batch_id)
    refuse_machinerys(batch)
    if batch.kind is not BatchKind.EARNINGS:
        raise Conflict(f"batch {batch.number} pays top-ups back; it cannot be cancelled here")
    signed = exists().where(PayoutAttempt.part_id == PayoutPart.id, PayoutPart.batch_id == batch.id)
    if batch.state in _FINAL or await session.scalar(select(signed)):
        raise Conflict(
            f"something of batch {batch.number} was signed and may land; hold it, what cannot land comes back by itself"
        )
    batch.state = BatchState.HELD
    batch.hold_reason = (BEING_CANCELLED + checked)[:REASON_CHARACTERS_MAX]
    async with in_words():
        await session.flush()
    await outbox.enqueue(session, task=CANCEL_TASK, subject=str(batch_id), key=str(batch_id))
    log.warning("payout_batch.cancelling", number=batch.number, reason=checked, actor_id=str(actor_id))
    return batch


async def give_back(sessions: Sessions, batch_id: UUID) -> PayoutBatch:
    """Give the money of a batch that is being cancelled back, in chunks, and end it. A repeat goes on where it stopped."""
    while True:
        async with session_scope(sessions) as session:
            batch = await lock_batch(session, batch_id)
            if batch.state is not BatchState.HELD or not (batch.hold_reason or "").startswith(
                BEING_CANCELLED
            ):
                return batch
            if not await _give_back_chunk(session, batch):
                batch.hold_reason = None
                batch.state, batch.finished_at = BatchState.CANCELLED, func.clock_timestamp()
                await session.flush()
                await session.refresh(batch)
                log.warning("payout_batch.cancelled", number=batch.number)
                return batch


async def _give_back_chunk(session: AsyncSession, batch: PayoutBatch) -> int:
    query = select(PayoutItem).where(PayoutItem.batch_id == batch.id, PayoutItem.state != ItemState.RETURNED)
    items = (await session.scalars(query.order_by(PayoutItem.position).limit(CHUNK_PROVIDERS))).all()
    if not items:
        return 0
    providers = {item.provider_id for item in items if item.provider_id is not None}
    accounts = await lock_accounts(session, sorted(providers), other=AccountKind.PAYOUT_CLEARING)
    for item in items:
        item.state, item.reason = ItemState.RETURNED, "its batch was cancelled"
    await session.flush()
    await post(session, [returned(item, accounts.other, accounts.payable) for item in items])
    return len(items)


def returned(item: PayoutItem, clearing: dict[UUID, int], payable: dict[UUID, int]) -> Movement:
    """A provider's money back from its way out. Accounts are by provider."""
    assert item.provider_id is not None, "earnings are a provider's"
    return Movement(
        key=f"payout:{item.id}:returned",
        debit_account_id=clearing[item.provider_id],
        credit_account_id=payable[item.provider_id],
        amount=Money(item.amount_micro_usdc * NANO_USD_PER_MICRO_USDC),
        code=TransferCode.PAYOUT_RETURNED,
    )
