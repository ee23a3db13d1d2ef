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
from raymart_marketplace.oversight.models import UsageFlag
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()

FLAGS_MAX = 100
"""Usage records in one call."""


async def flag_usage(
    session: AsyncSession, usage_ids: Collection[UUID], *, reason: str, actor_id: UUID
) -> Sequence[UsageFlag]:
    """Flag each of the usage records; one that is flagged already keeps its flag. Returns the standing flags by record.

    Raises: InvalidRequest for none or too many, NotFound when one does not exist: then none is flagged.
    """
    checked = checked_reason(reason)
    asked = sorted(set(usage_ids))
    if not 1 <= len(asked) <= FLAGS_MAX:
        raise InvalidRequest(f"{len(asked)} requests; name 1 to {FLAGS_MAX}", param="request_ids")
    rows = (await session.scalars(select(UsageRecord).where(UsageRecord.id.in_(asked)))).all()
    missing = set(asked) - {row.id for row in rows}
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
    standing = select(UsageFlag).where(UsageFlag.usage_id.in_(asked), UsageFlag.cleared_at.is_(None))
    return (await session.scalars(standing.order_by(UsageFlag.usage_id))).all()


async def clear_flag(session: AsyncSession, usage_id: UUID, *, reason: str, actor_id: UUID) -> UsageFlag:
    """End the flag. Raises: InvalidRequest, Conflict when none stands."""
    statement = (
        update(UsageFlag)
        .where(UsageFlag.usage_id == usage_id, UsageFlag.cleared_at.is_(None))
        .values(cleared_at=func.clock_timestamp(), cleared_by=actor_id, cleared_reason=checked_reason(reason))
        .returning(UsageFlag)
    )
    cleared = (await session.scalars(statement)).one_or_none()
    if cleared is None:
        raise Conflict(
            f"{show(Prefix.REQUEST, usage_id)} is not flagged; nothing was changed", param="request_id"
        )
    log.info("usage.cleared", usage_id=str(usage_id), actor_id=str(actor_id))
    return cleared
