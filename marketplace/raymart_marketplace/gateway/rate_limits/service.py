"""Limits set and removed, and how they stand. Takes a session, never commits; gateways follow within seconds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest, NotFound
from raymart_marketplace.accounts.models import ApiKey, Organization, Project
from raymart_marketplace.gateway.rate_limits.limits import (
    CONCURRENT_MAX,
    NO_LIMITS,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
    Level,
    Limits,
)
from raymart_marketplace.gateway.rate_limits.models import LimitSetter, RateLimit

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimit:
    """What somebody has set."""

    level: Level
    scope_id: UUID
    setter: LimitSetter
    limits: Limits


async def set_limit(session: AsyncSession, asked: SetLimit, *, actor_id: UUID | None) -> SetLimit:
    """Limit what the scope may do, in the place of what the same had set before.

    Raises: InvalidRequest for a limit out of range or none at all, NotFound.
    """
    _check(asked.limits)
    if not asked.limits:
        raise InvalidRequest("nothing is limited; give at least one limit, or remove it", param="limits")
    await _put(session, asked, actor_id=actor_id)
    log.info("limit.set", level=asked.level.value, scope_id=str(asked.scope_id), setter=asked.setter.value)
    return asked


async def remove_limit(
    session: AsyncSession, *, level: Level, scope_id: UUID, setter: LimitSetter, actor_id: UUID | None
) -> None:
    """Take back what `setter` has set for the scope. Raises: NotFound when that is nothing."""
    standing = await session.get(RateLimit, (scope_id, setter), with_for_update=True, populate_existing=True)
    if standing is None or not limits_of(standing):
        raise NotFound(f"no limit is set for this {level.label}", param="scope_id")
    nothing = SetLimit(level=level, scope_id=scope_id, setter=setter, limits=NO_LIMITS)
    await _put(session, nothing, actor_id=actor_id)
    log.info("limit.removed", level=level.value, scope_id=str(scope_id), setter=setter.value)


async def set_limits_of(session: AsyncSession, scope_ids: Collection[UUID]) -> Sequence[SetLimit]:
    """What is set for these organizations, projects or keys."""
    rows = await session.scalars(
        select(RateLimit)
        .where(RateLimit.scope_id.in_(scope_ids))
        .order_by(RateLimit.scope_id, RateLimit.setter)
        .execution_options(populate_existing=True)
    )
    return [
        SetLimit(level=row.scope, scope_id=row.scope_id, setter=row.setter, limits=limits)
        for row in rows
        if (limits := limits_of(row))
    ]


def limits_of(row: RateLimit) -> Limits:
    """The limits of `row`."""
    return Limits(
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent_requests=row.concurrent_requests,
    )


def _check(limits: Limits) -> None:
    for name, value, most in (
        ("requests_per_minute", limits.requests_per_minute, REQUESTS_PER_MINUTE_MAX),
        ("tokens_per_minute", limits.tokens_per_minute, TOKENS_PER_MINUTE_MAX),
        ("concurrent_requests", limits.concurrent_requests, CONCURRENT_MAX),
    ):
        if value is not None and not 1 <= value <= most:
            raise InvalidRequest(f"{name}={value} is not between 1 and {most}", param=name)


async def _put(session: AsyncSession, asked: SetLimit, *, actor_id: UUID | None) -> None:
    values = {
        "requests_per_minute": asked.limits.requests_per_minute,
        "tokens_per_minute": asked.limits.tokens_per_minute,
        "concurrent_requests": asked.limits.concurrent_requests,
        "actor_id": actor_id,
        "updated_at": func.clock_timestamp(),
    }
    statement = insert(RateLimit).values(
        scope=asked.level,
        scope_id=asked.scope_id,
        setter=asked.setter,
        organization_id=await _organization_of(session, asked.level, asked.scope_id),
        **values,
    )
    await session.execute(
        statement.on_conflict_do_update(index_elements=[RateLimit.scope_id, RateLimit.setter], set_=values)
    )


async def _organization_of(session: AsyncSession, level: Level, scope_id: UUID) -> UUID:
    """Whose the scope is. Raises: NotFound."""
    match level:
        case Level.ORGANIZATION:
            statement = select(Organization.id).where(Organization.id == scope_id)
        case Level.PROJECT:
            statement = select(Project.organization_id).where(Project.id == scope_id)
        case Level.API_KEY:
            statement = (
                select(Project.organization_id)
                .join(ApiKey, ApiKey.project_id == Project.id)
                .where(ApiKey.id == scope_id)
            )
    organization_id = await session.scalar(statement)
    if organization_id is None:
        raise NotFound(f"there is no such {level.label}", param="scope_id")
    return organization_id
