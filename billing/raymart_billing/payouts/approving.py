"""Approving a batch: people's decisions, and what follows when there are enough. Takes a session, never commits.

The database refuses on its own what may not be: who planned it, too few people, another total, caps, a stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.batches import lock_batch
from raymart_billing.payouts.models import (
    BatchState,
    ItemState,
    PayoutApproval,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.policy import present_rules
from raymart_billing.payouts.refusals import in_words
from raymart_billing.payouts.sending.wallets import outdated_items
from raymart_billing.solana import PAYEES_MAX
from raymart_billing.work import outbox
from raymart_core.errors import Conflict
from raymart_core.money import Asset, Money
from raymart_marketplace.chain_settings import ChainSettings

log = structlog.get_logger()

SEND_TASK: Final = "payouts.send_part"
"""Its subject is the part's id."""
_MICRO_USDC: Final = 1_000_000
CHANGED_SHOWN_MAX: Final = 10
"""Items that are named when their wallets have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """What one transaction can carry, and may move."""

    payees_max: int
    total_max: Money


def part_limits(settings: ChainSettings) -> PartLimits:
    """By the version of transactions, and by what the signer lets pass."""
    return PartLimits(
        payees_max=PAYEES_MAX[settings.payout_transaction_version],
        total_max=Money(settings.payout_transaction_usdc_max * _MICRO_USDC, Asset.USDC),
    )


async def approve_batch(
    session: AsyncSession, batch_id: UUID, *, user_id: UUID, total: Money, limits: PartLimits
) -> PayoutBatch:
    """Approve `total`, what the person has seen; with enough people the batch is cut into parts and sent.

    A repeat by the same person changes nothing. Locks the batch.
    Raises: NotFound, Conflict (planned by this person; another total; not open; over a cap; payouts are stopped; a payee
    would now be paid elsewhere, or nowhere, than when it was planned).
    """
    batch = await lock_batch(session, batch_id)
    if total != Money(batch.total_micro_usdc, Asset.USDC):
        raise Conflict(
            f"batch {batch.number} pays {Money(batch.total_micro_usdc, Asset.USDC)}, not {total}; look at it again",
            param="total",
        )
    await _refuse_changed_wallets(session, batch)
    async with in_words():
        await session.execute(
            insert(PayoutApproval)
            .values(batch_id=batch_id, user_id=user_id, total_micro_usdc=total.amount)
            .on_conflict_do_update(
                index_elements=["batch_id", "user_id"], set_={"total_micro_usdc": total.amount}
            )
        )
    given = len(await approvals_that_count(session, batch))
    needed = (await present_rules(session)).approvals_needed(total)
    log.info("payout_batch.approval", number=batch.number, user_id=str(user_id), given=given, needed=needed)
    async with in_words():
        if given < needed:
            batch.state = BatchState.REVIEWED
            await session.flush()
            return batch
        batch.state, batch.approved_at = BatchState.APPROVED, func.clock_timestamp()
        await session.flush()
    await session.refresh(batch)
    await cut_parts(session, batch, limits)
    return batch


async def _refuse_changed_wallets(session: AsyncSession, batch: PayoutBatch) -> None:
    """Days may lie between planning and approval: who has withdrawn or replaced a wallet must not be paid to it."""
    planned = select(PayoutItem.id, PayoutItem.position).where(
        PayoutItem.batch_id == batch.id, PayoutItem.state == ItemState.PLANNED
    )
    items = (await session.execute(planned.order_by(PayoutItem.position))).all()
    outdated = await outdated_items(session, [item.id for item in items])
    changed = [item.position for item in items if item.id in outdated]
    if changed:
        shown = ", ".join(map(str, changed[:CHANGED_SHOWN_MAX]))
        raise Conflict(
            f"{len(changed)} payees of batch {batch.number} have changed or withdrawn their wallet since"
            f" it was planned (items {shown}); split them off and cancel that part: the next plan pays them"
        )


async def approvals_that_count(session: AsyncSession, batch: PayoutBatch) -> Sequence[PayoutApproval]:
    """Approvals of the present total by people who did not plan it, oldest first."""
    found = await session.scalars(
        select(PayoutApproval)
        .where(
            PayoutApproval.batch_id == batch.id,
            PayoutApproval.total_micro_usdc == batch.total_micro_usdc,
            PayoutApproval.user_id.is_distinct_from(batch.created_by),
        )
        .order_by(PayoutApproval.decided_at)
        .execution_options(populate_existing=True)
    )
    return found.all()


def cut(amounts: Sequence[int], limits: PartLimits) -> list[range]:
    """Places of consecutive items for each part: as few parts as that allows. Amounts are micro-USDC. Pure.

    An item over the signer's limit is alone: the signer refuses it, and nobody else waits for it.
    """
    parts, start, total = list[range](), 0, 0
    for place, amount in enumerate(amounts):
        is_full = place - start == limits.payees_max or total + amount > limits.total_max.amount
        if place > start and is_full:
            parts.append(range(start, place))
            start, total = place, 0
        total += amount
    return [*parts, range(start, len(amounts))] if amounts else parts


def part_id_of(batch_id: UUID, position: int) -> UUID:
    """The id of a part, from which its marker's address follows.

    A database that comes back from before the approval, and is approved again, makes the same parts with the same
    markers: what was paid meanwhile is found on the chain, and paid to nobody twice.
    """
    return uuid5(batch_id, f"part {position}")


async def cut_parts(session: AsyncSession, batch: PayoutBatch, limits: PartLimits) -> Sequence[PayoutPart]:
    """Make the parts of an approved batch and ask for each to be sent."""
    query = select(PayoutItem.id, PayoutItem.amount_micro_usdc).where(
        PayoutItem.batch_id == batch.id, PayoutItem.state == ItemState.PLANNED
    )
    items = (await session.execute(query.order_by(PayoutItem.position))).all()
    amounts = [item.amount_micro_usdc for item in items]
    parts, part_of = list[PayoutPart](), list[tuple[UUID, UUID]]()
    for position, places in enumerate(cut(amounts, limits)):
        part = PayoutPart(
            id=part_id_of(batch.id, position),
            batch_id=batch.id,
            position=position,
            total_micro_usdc=sum(amounts[p] for p in places),
        )
        parts.append(part)
        part_of += [(items[place].id, part.id) for place in places]
    session.add_all(parts)
    await session.flush()
    await session.execute(
        _PUT, {"items": [item for item, _ in part_of], "parts": [part for _, part in part_of]}
    )
    for part in parts:
        await outbox.enqueue(session, task=SEND_TASK, subject=str(part.id), key=str(part.id))
    log.warning(
        "payout_batch.approved", number=batch.number, parts=len(parts), micro_usdc=batch.total_micro_usdc
    )
    return parts


_PUT = text(
    "update payout_item i set part_id = p.part_id"
    " from unnest(cast(:items as uuid[]), cast(:parts as uuid[])) p (item_id, part_id) where i.id = p.item_id"
)
