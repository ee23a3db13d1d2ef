"""The end of a part: one transaction writes ledger, items, attempts, the part and, where some were left, its successor.

The landed transaction says whom it paid. Usually all; nobody, when the marker was burnt to keep a bad payee out; and some
of them when the database came back from a backup older than a quarantine.
"""

from collections.abc import Sequence
from uuid import UUID, uuid5

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.posting import post
from raymart_billing.payouts.models import PartState
from raymart_billing.payouts.sending.attempts import resolve
from raymart_billing.payouts.sending.booking import Bookings, booked_items
from raymart_billing.payouts.sending.claims import lock
from raymart_billing.payouts.sending.decision import Resolution
from raymart_billing.payouts.sending.facts import Part, Payee
from raymart_billing.payouts.sending.sights import Landing, movable, unpaid
from raymart_billing.work import outbox

log = structlog.get_logger()

SEND_TASK = "payouts.send_part"
BURNT = "its marker was burnt, so it can pay nobody; those who were left are paid by another part"

_LOCK_BATCH = text("select id from payout_batch where id = :id for no key update")
_BEGIN_SENDING = text("update payout_batch set state = 'sending' where id = :id and state = 'approved'")
_RESOLVE_REST = text("""
    update payout_attempt
       set state = case when signature = :signature then 'landed' else 'expired' end,
           error = case when signature = :signature then null else 'another attempt has created the marker' end,
           resolved_at = clock_timestamp()
     where part_id = :id and (state = 'live' or signature = :signature and state <> 'landed')
""")
_ITEMS = text("""
    update payout_item set state = :state
     where id = any(:ids) and part_id = :id and state in ('planned', 'quarantined')
    returning id
""")
_FAIL = text("update payout_part set state = 'failed', state_reason = :reason where id = :id")
_SUCCEED = text("""
    insert into payout_part (id, batch_id, position, total_micro_usdc)
    select :successor, :batch_id, coalesce(max(position), -1) + 1, :total from payout_part where batch_id = :batch_id
""")
_MOVE = text("update payout_item set part_id = :successor where id = any(:ids) and part_id = :id")
_FINISH = text("""
    update payout_part
       set state = :state, state_reason = :reason, marker = :marker, signature = :signature, slot = :slot,
           fee_lamports = :fee_lamports, finalized_at = clock_timestamp()
     where id = :id
""")
_FINISH_BATCHES = text("""
    update payout_batch batch set state = 'finalized', finished_at = clock_timestamp()
     where batch.state = 'sending'
       and exists (select from payout_part part where part.batch_id = batch.id)
       and not exists (
           select from payout_part part
            where part.batch_id = batch.id and part.state not in ('finalized', 'failed')
       )
       and not exists (
           select from payout_item item
            where item.batch_id = batch.id and item.state not in ('paid', 'returned')
       )
    returning batch.number
""")


def successor_of(part_id: UUID) -> UUID:
    """The part that pays whom `part_id` could not.

    Its id follows from the old one, so that a database that came back from a backup makes the same part again, with the
    same marker, and finds that it was paid.
    """
    return uuid5(part_id, "successor")


async def settle(
    session: AsyncSession,
    part: Part,
    landing: Landing,
    resolutions: Sequence[Resolution],
    *,
    marker: str,
    bookings: Bookings,
) -> None:
    """Write what `landing` proves of `part`. Locks the batch, the part, then the ledger's accounts. Raises: LeaseLost."""
    moved = movable(part, landing)
    if moved:
        await session.execute(_LOCK_BATCH, {"id": part.batch_id})
    await session.execute(_BEGIN_SENDING, {"id": part.batch_id})
    await lock(session, part.claim)
    await resolve(session, part, resolutions)
    await session.execute(_RESOLVE_REST, {"id": part.id, "signature": landing.signature})
    returned = [payee.item_id for payee in unpaid(part, landing) if payee.is_quarantined]
    await _set_items(session, part, landing.paid, "paid")
    await _set_items(session, part, returned, "returned")
    if moved:
        await _succeed(session, part, moved)
    await _finish(session, part, landing, marker=marker)
    booking = bookings[part.kind]
    movements = [
        *(await booking.settled(session, await booked_items(session, landing.paid)) if landing.paid else ()),
        *(await booking.returned(session, await booked_items(session, returned)) if returned else ()),
    ]
    if movements:
        await post(session, movements)


async def finish_batches(session: AsyncSession) -> None:
    """End each batch whose parts have all ended and whose money is all paid or given back."""
    for number in await session.scalars(_FINISH_BATCHES):
        log.info("payout.batch_finalized", batch=number)


async def _set_items(session: AsyncSession, part: Part, ids: Sequence[UUID], state: str) -> None:
    if not ids:
        return
    rows = await session.execute(_ITEMS, {"id": part.id, "ids": list(ids), "state": state})
    changed = len(rows.all())
    assert changed == len(ids), f"part {part.id}: {changed} of {len(ids)} items became {state}"


async def _succeed(session: AsyncSession, part: Part, moved: Sequence[Payee]) -> None:
    """Put those who are left into a part of their own, under a marker of its own."""
    successor = successor_of(part.id)
    # Only a part that failed gives its items away; one that paid some of them is final a statement later.
    await session.execute(_FAIL, {"id": part.id, "reason": BURNT})
    await session.execute(
        _SUCCEED,
        {
            "successor": successor,
            "batch_id": part.batch_id,
            "total": sum(payee.amount_micro_usdc for payee in moved),
        },
    )
    ids = [payee.item_id for payee in moved]
    await session.execute(_MOVE, {"id": part.id, "successor": successor, "ids": ids})
    await outbox.enqueue(session, task=SEND_TASK, subject=str(successor), key=str(successor))


async def _finish(session: AsyncSession, part: Part, landing: Landing, *, marker: str) -> None:
    state = PartState.FINALIZED if landing.paid else PartState.FAILED
    await session.execute(
        _FINISH,
        {
            "id": part.id,
            "state": state.value,
            "reason": None if landing.paid else BURNT,
            "marker": marker,
            "signature": landing.signature,
            "slot": landing.slot,
            "fee_lamports": landing.fee_lamports,
        },
    )
    log.info(
        "payout.part_settled",
        part_id=str(part.id),
        batch=part.batch_number,
        state=state.value,
        signature=landing.signature,
        slot=landing.slot,
        items_paid=len(landing.paid),
    )
