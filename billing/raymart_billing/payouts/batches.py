"""What people do with batches besides approving: hold, release, split. Takes a session, never commits.

Each locks the batch's row first; what may not be, the database refuses on its own.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import case, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.models import (
    BatchState,
    ItemState,
    PartState,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.planning import BEING_PLANNED
from raymart_billing.payouts.refusals import in_words
from raymart_billing.payouts.sending.standing import release_parts
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()

SPLIT_ITEMS_MAX: Final = 1_000
BEING_CANCELLED: Final = "being cancelled: "
"""How the reason of a hold begins whose batch will be cancelled; it is not released any more."""
_OPEN = frozenset({BatchState.PLANNED, BatchState.REVIEWED})
_HOLDABLE = _OPEN | {BatchState.APPROVED, BatchState.SENDING}


async def lock_batch(session: AsyncSession, batch_id: UUID) -> PayoutBatch:
    """The batch, which nobody else changes until the transaction ends. Raises: NotFound."""
    query = select(PayoutBatch).where(PayoutBatch.id == batch_id).with_for_update(key_share=True)
    batch = (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()
    if batch is None:
        raise NotFound("there is no such payout batch", param="batch_id")
    return batch


async def hold_batch(
    session: AsyncSession, batch_id: UUID, *, reason: str, actor_id: UUID | None
) -> PayoutBatch:
    """Stop a batch until it is released: nothing more of it is signed. Raises: InvalidRequest, NotFound, Conflict."""
    checked = checked_reason(reason)
    batch = await lock_batch(session, batch_id)
    if batch.state not in _HOLDABLE:
        raise Conflict(f"batch {batch.number} is {batch.state.value} and cannot be held; nothing was changed")
    batch.state, batch.hold_reason = BatchState.HELD, checked
    await session.flush()
    log.warning("payout_batch.held", number=batch.number, reason=checked, actor_id=str(actor_id))
    return batch


async def release_batch(session: AsyncSession, batch_id: UUID, *, actor_id: UUID | None) -> PayoutBatch:
    """End a hold: the batch goes on where it was, and its parts that the engine has held are tried again.

    Raises: NotFound, Conflict (neither it nor a part of it is held; being planned or cancelled).
    """
    batch = await lock_batch(session, batch_id)
    refuse_machinerys(batch)
    parts = await release_parts(session, batch.id)
    if parts and batch.state is BatchState.SENDING:
        log.warning("payout_batch.parts_released", number=batch.number, parts=parts, actor_id=str(actor_id))
        return batch
    if batch.state is not BatchState.HELD:
        raise Conflict(f"batch {batch.number} is {batch.state.value}, not held; nothing was changed")
    batch.state, batch.hold_reason = await _state_before(session, batch), None
    async with in_words():
        await session.flush()
    log.warning("payout_batch.released", number=batch.number, actor_id=str(actor_id))
    return batch


async def split_batch(
    session: AsyncSession, batch_id: UUID, item_ids: Sequence[UUID], *, reason: str, actor_id: UUID | None
) -> PayoutBatch:
    """Move items into a new batch that is held for `reason`; returns the new one. Approvals of the old one are void.

    Whoever splits has planned the new batch, and so does not approve it. At least one item stays.
    Raises: InvalidRequest, NotFound, Conflict (approved already; being planned or cancelled).
    """
    checked, wanted = checked_reason(reason), frozenset(item_ids)
    if not 1 <= len(wanted) <= SPLIT_ITEMS_MAX:
        raise InvalidRequest(
            f"{len(wanted)} items to split off; name 1 to {SPLIT_ITEMS_MAX}", param="item_ids"
        )
    batch = await lock_batch(session, batch_id)
    refuse_machinerys(batch)
    if batch.approved_at is not None or batch.state not in _OPEN | {BatchState.HELD}:
        raise Conflict(f"batch {batch.number} is {batch.state.value}; what was approved stays as it is")
    total = await _total_of(session, batch, wanted)
    new = PayoutBatch(
        id=new_id(),
        kind=batch.kind,
        epoch_id=batch.epoch_id,
        mint=batch.mint,
        state=BatchState.HELD,
        hold_reason=checked,
        total_micro_usdc=total,
        payees=len(wanted),
        created_by=actor_id if actor_id is not None else batch.created_by,
        split_from=batch.id,
    )
    session.add(new)
    await session.flush()
    await session.execute(update(PayoutItem).where(PayoutItem.id.in_(wanted)).values(batch_id=new.id))
    batch.total_micro_usdc -= total
    batch.payees -= len(wanted)
    batch.state = BatchState.PLANNED if batch.state in _OPEN else batch.state
    await session.flush()
    log.warning(
        "payout_batch.split", number=batch.number, into=new.number, payees=len(wanted), actor_id=str(actor_id)
    )
    return new


def refuse_machinerys(batch: PayoutBatch) -> None:
    """Raises: Conflict while a batch is being planned or cancelled."""
    reason = batch.hold_reason or ""
    if reason == BEING_PLANNED or reason.startswith(BEING_CANCELLED):
        raise Conflict(f"batch {batch.number} is held: {reason}; wait until that is done")


async def _total_of(session: AsyncSession, batch: PayoutBatch, wanted: frozenset[UUID]) -> int:
    """Micro-USDC of the items. Raises: InvalidRequest unless they are the batch's own, and not all of it."""
    query = select(func.count(), func.coalesce(func.sum(PayoutItem.amount_micro_usdc), 0)).where(
        PayoutItem.batch_id == batch.id, PayoutItem.id.in_(wanted), PayoutItem.state == ItemState.PLANNED
    )
    found, total = (await session.execute(query)).one()
    if found != len(wanted):
        raise InvalidRequest(
            f"{len(wanted) - found} of {len(wanted)} items are not in batch {batch.number}; nothing was changed",
            param="item_ids",
        )
    if found == batch.payees:
        raise InvalidRequest(
            f"all {found} payees of batch {batch.number} were named; hold the batch instead", param="item_ids"
        )
    return int(total)


async def _state_before(session: AsyncSession, batch: PayoutBatch) -> BatchState:
    if batch.approved_at is None:
        return BatchState.PLANNED
    begun = exists().where(
        PayoutPart.batch_id == batch.id, (PayoutPart.attempts > 0) | (PayoutPart.state != PartState.PLANNED)
    )
    is_begun = await session.scalar(select(case((begun, True), else_=False)))
    return BatchState.SENDING if is_begun else BatchState.APPROVED
