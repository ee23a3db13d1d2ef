"""Flagging usage for review. What earnings mature is asked of `flagged_usage`. Functions flush; the edge commits."""

from collections.abc import Collection, Sequence
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.metering.models import UsageRecord
from raymart_marketplace.metering.parts import of_requests
from raymart_marketplace.oversight.models import UsageFlag
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()

FLAGS_MAX = 100
"""Requests in one call."""


async def flag_usage(
    session: AsyncSession, request_ids: Collection[UUID], *, reason: str, actor_id: UUID
) -> Sequence[UsageFlag]:
    """Flag the usage records of these requests; one that is flagged already keeps its flag. Returns the standing flags by record.

    Raises: InvalidRequest for none or too many, NotFound when one does not exist: then none is flagged.
    """
    checked = checked_reason(reason)
    asked = sorted(set(request_ids))
    if not 1 <= len(asked) <= FLAGS_MAX:
        raise InvalidRequest(f"{len(asked)} requests; name 1 to {FLAGS_MAX}", param="request_ids")
    rows = (await session.scalars(select(UsageRecord).where(of_requests(asked)))).all()
    missing = set(asked) - {row.request_id for row in rows}
    if missing:
        shown = show(Prefix.REQUEST, min(missing))
        raise NotFound(f"no usage is recorded of {shown!r}; it was not billed", param="request_ids")
    values = [
        {
            "id": new_id(),
            "usage_id": row.id,
            "organization_id": row.organization_id,
            "provider_id": row.provider_id,
            "reason": checked,
            "actor_id": actor_id,
        }
        for row in rows
    ]
    await session.execute(insert(UsageFlag).values(values).on_conflict_do_nothing())
    log.warning("usage.flagged", records=len(values), actor_id=str(actor_id))
    flagged = [row.id for row in rows]
    standing = select(UsageFlag).where(UsageFlag.usage_id.in_(flagged), UsageFlag.cleared_at.is_(None))
    return (await session.scalars(standing.order_by(UsageFlag.usage_id))).all()


async def clear_flag(session: AsyncSession, request_id: UUID, *, reason: str, actor_id: UUID) -> UsageFlag:
    """End the flags of the request's usage; returns that of its first part. Raises: InvalidRequest, Conflict when none stands."""
    parts = select(UsageRecord.id).where(of_requests((request_id,))).order_by(UsageRecord.part)
    # What is archived has no record here any more; the flag of its first part is named like its request.
    usage_ids = (await session.scalars(parts)).all() or (request_id,)
    statement = (
        update(UsageFlag)
        .where(UsageFlag.usage_id.in_(usage_ids), UsageFlag.cleared_at.is_(None))
        .values(cleared_at=func.clock_timestamp(), cleared_by=actor_id, cleared_reason=checked_reason(reason))
        .returning(UsageFlag)
    )
    cleared = {flag.usage_id: flag for flag in await session.scalars(statement)}
    if not cleared:
        raise Conflict(
            f"{show(Prefix.REQUEST, request_id)} is not flagged; nothing was changed", param="request_id"
        )
    log.info("usage.cleared", request_id=str(request_id), records=len(cleared), actor_id=str(actor_id))
    return next(cleared[usage_id] for usage_id in usage_ids if usage_id in cleared)
