"""The platform's support looking into one organization: for a reason, for hours, and seen by the organization's owners.

An open grant lets its holder read what `TENANT_READS` says of that one organization, and change nothing.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.invitation_models import SupportAccess
from raymart_marketplace.accounts.models import Organization, OrganizationKind

HOURS_MAX = 8
REASON_CHARACTERS_MAX = 500


async def open_access(
    session: AsyncSession, *, organization_id: UUID, user_id: UUID, reason: str, hours: int
) -> SupportAccess:
    """Let the user look into the organization for `hours`. One that had run out is closed on the way.

    Raises: InvalidRequest, NotFound, Conflict while one is open.
    """
    text = reason.strip()
    if not 1 <= len(text) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(text)} characters; give 1 to {REASON_CHARACTERS_MAX}", param="reason"
        )
    if not 1 <= hours <= HOURS_MAX:
        raise InvalidRequest(f"{hours} hours; give 1 to {HOURS_MAX}", param="hours")
    kind = await session.scalar(
        select(Organization.kind).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    if kind is None or kind is OrganizationKind.PLATFORM:
        raise NotFound(f"there is no tenant {show(Prefix.ORGANIZATION, organization_id)!r}")
    mine = (SupportAccess.organization_id == organization_id, SupportAccess.user_id == user_id)
    await session.execute(
        update(SupportAccess)
        .where(*mine, SupportAccess.closed_at.is_(None), SupportAccess.expires_at <= func.clock_timestamp())
        .values(closed_at=SupportAccess.expires_at)
    )
    if await session.scalar(select(SupportAccess.id).where(*mine, SupportAccess.closed_at.is_(None))):
        raise Conflict("you have an open access to this organization; close it first")
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    access = SupportAccess(
        organization_id=organization_id,
        user_id=user_id,
        reason=text,
        created_at=now,
        expires_at=now + timedelta(hours=hours),
    )
    session.add(access)
    await session.flush()
    return access


async def close_access(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> SupportAccess:
    """End the user's open access now. Raises: NotFound when there is none."""
    closed: SupportAccess | None = await session.scalar(
        update(SupportAccess)
        .where(SupportAccess.organization_id == organization_id, *open_accesses(user_id))
        .values(closed_at=func.clock_timestamp())
        .returning(SupportAccess)
    )
    if closed is None:
        raise NotFound("you have no open access to this organization", param="organization_id")
    return closed


def open_accesses(user_id: UUID | InstrumentedAttribute[UUID]) -> Sequence[ColumnElement[bool]]:
    """Conditions of what the user may look into at this moment, by the database's clock."""
    return (
        SupportAccess.user_id == user_id,
        SupportAccess.closed_at.is_(None),
        SupportAccess.expires_at > func.clock_timestamp(),
    )
