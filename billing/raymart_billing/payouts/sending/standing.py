"""Where a part stands, in rows: held, waiting, on another marker, or with a payee in quarantine."""

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.models import REASON_CHARACTERS_MAX
from raymart_billing.payouts.sending.facts import Part

log = structlog.get_logger()

Write = Callable[[AsyncSession, Part, str], Awaitable[None]]
"""Writes where a part stands, and why. The caller holds the part's lock."""

_HOLD = text("update payout_part set state = 'held', state_reason = :reason where id = :id")
_WAIT_FOR_FUNDS = text("""
    update payout_part set state = 'waiting_funds', state_reason = :reason where id = :id
""")
_NOTE = text("""
    update payout_part set state_reason = :reason where id = :id and state_reason is distinct from :reason
""")
_ROTATE = text("""
    update payout_part set state = 'planned', generation = generation + 1, marker = null, state_reason = :reason
     where id = :id and generation = :generation
""")
_QUARANTINE = text("""
    update payout_item set state = 'quarantined', reason = :reason
     where id = :item_id and part_id = :id and state = 'planned'
""")
_RELEASE = text("""
    update payout_part
       set attempts_released = attempts, state_reason = null, locked_until = null,
           state = case when attempts > 0 then 'submitted' else 'planned' end
     where batch_id = :batch_id and state = 'held'
    returning id
""")


async def hold(session: AsyncSession, part: Part, reason: str) -> None:
    """Stop sending `part` until a person releases it. It is watched on: what is in flight may still land."""
    if part.reason != reason:
        log.error("payout.part_held", part_id=str(part.id), batch=part.batch_number, reason=reason)
    await session.execute(_HOLD, {"id": part.id, "reason": reason[:REASON_CHARACTERS_MAX]})


async def wait_for_funds(session: AsyncSession, part: Part, reason: str) -> None:
    """Note what the treasury lacks; it is looked at again by itself."""
    if part.reason != reason:
        log.warning("payout.waiting_funds", part_id=str(part.id), batch=part.batch_number, reason=reason)
    statement = _NOTE if part.live else _WAIT_FOR_FUNDS
    await session.execute(statement, {"id": part.id, "reason": reason[:REASON_CHARACTERS_MAX]})


async def note(session: AsyncSession, part: Part, reason: str) -> None:
    """Say why nothing happens, to those who look."""
    await session.execute(_NOTE, {"id": part.id, "reason": reason[:REASON_CHARACTERS_MAX]})


async def rotate(session: AsyncSession, part: Part, reason: str) -> None:
    """Count up the generation, whose marker has another address. Only when the present one can never pay any more."""
    log.error("payout.marker_rotated", part_id=str(part.id), generation=part.generation, reason=reason)
    parameters = {"id": part.id, "generation": part.generation, "reason": reason[:REASON_CHARACTERS_MAX]}
    await session.execute(_ROTATE, parameters)


async def quarantine(session: AsyncSession, part: Part, reasons: Mapping[UUID, str]) -> None:
    """Keep these items from being paid by `part`. Their money stays in clearing until its marker is burnt or has paid."""
    for item_id, reason in reasons.items():
        log.warning("payout.quarantined", part_id=str(part.id), item_id=str(item_id), reason=reason)
        await session.execute(
            _QUARANTINE, {"id": part.id, "item_id": item_id, "reason": reason[:REASON_CHARACTERS_MAX]}
        )


async def release_parts(session: AsyncSession, batch_id: UUID) -> int:
    """Let the held parts of a batch be sent again, each with as many attempts as at first; returns how many there were.

    What made the engine hold them may still be so: then it holds them again.
    """
    return len((await session.execute(_RELEASE, {"batch_id": batch_id})).all())
