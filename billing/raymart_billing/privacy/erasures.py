"""Asking for an organization's end, and taking that back. A worker does it a week later: `erasing`.

Takes a session, flushes, never commits.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.privacy.models import OrganizationErasure
from raymart_billing.privacy.obstacles import obstacles
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.tenancy import unconfined

COOL_DOWN = timedelta(days=7)
"""So long somebody who did not mean it, or whose account was taken over, can take it back."""


async def request_erasure(
    session: AsyncSession, *, organization_id: UUID, confirm_name: str, user_id: UUID | None
) -> OrganizationErasure:
    """Erase the organization in a week, unless that is cancelled. Locks the organization's row.

    Raises: NotFound, InvalidRequest for another name, Conflict while something stands in the way or it is asked for already.
    """
    name = await session.scalar(
        select(Organization.name).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    if name is None:
        raise NotFound(f"there is no organization {show(Prefix.ORGANIZATION, organization_id)!r}")
    if confirm_name != name:
        raise InvalidRequest("this is not the organization's name; write it as it is", param="confirm_name")
    # All of it, whatever the one who asks may see.
    async with unconfined(session):
        found = await obstacles(session, organization_id)
    if found:
        raise Conflict(f"the organization cannot be erased yet: {'; '.join(found)}", param="organization_id")
    made: OrganizationErasure | None = await session.scalar(
        insert(OrganizationErasure)
        .values(
            id=new_id(),
            organization_id=organization_id,
            requested_by=user_id,
            due_at=func.clock_timestamp() + COOL_DOWN,
        )
        .on_conflict_do_nothing()
        .returning(OrganizationErasure)
    )
    if made is None:
        raise Conflict(
            "the organization is erased already, or will be; `organization.erasure` says when",
            param="organization_id",
        )
    return made


async def cancel_erasure(session: AsyncSession, *, organization_id: UUID) -> OrganizationErasure:
    """Take it back. Raises: Conflict when none was asked for, or it is done."""
    cancelled = await session.scalar(
        update(OrganizationErasure)
        .where(
            OrganizationErasure.organization_id == organization_id,
            OrganizationErasure.cancelled_at.is_(None),
            OrganizationErasure.erased_at.is_(None),
        )
        .values(cancelled_at=func.clock_timestamp())
        .returning(OrganizationErasure)
        .execution_options(populate_existing=True)
    )
    if cancelled is None:
        raise Conflict(
            "no erasure of the organization is waiting; nothing was changed", param="organization_id"
        )
    return cancelled


async def refuse_erased(session: AsyncSession, organization_id: UUID) -> None:
    """Raises: Conflict when the organization is erased. A trigger refuses whoever was at the same moment."""
    is_erased = await session.scalar(
        select(OrganizationErasure.id).where(
            OrganizationErasure.organization_id == organization_id,
            OrganizationErasure.erased_at.is_not(None),
        )
    )
    if is_erased is not None:
        raise Conflict("the organization is erased; nothing begins in it", param="organization_id")
