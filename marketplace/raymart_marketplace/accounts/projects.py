"""Projects and names of an organization."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.members import lock_organization
from raymart_marketplace.accounts.models import ApiKey, Membership, Organization, Project, Role
from raymart_marketplace.accounts.names import clean_name, unique_slug
from raymart_marketplace.accounts.service import DEFAULT_PROJECT_SLUG

PROJECTS_MAX = 100
"""Projects of one organization, archived ones included."""
OWNED_MAX = 20
"""Organizations that one person owns."""


async def require_room_for_another(session: AsyncSession, user_id: UUID) -> None:
    """Raises: Conflict when the person owns as many organizations as one may."""
    owned = await session.scalar(
        select(func.count()).where(Membership.user_id == user_id, Membership.role == Role.OWNER)
    )
    if (owned or 0) >= OWNED_MAX:
        raise Conflict(f"you own {owned} organizations, the most one person may; hand one over first")


async def rename_organization(session: AsyncSession, *, organization_id: UUID, name: str) -> None:
    """Give it another name; the slug stays. Raises: InvalidRequest."""
    shown_name = clean_name(name, param="name")
    await session.execute(
        update(Organization).where(Organization.id == organization_id).values(name=shown_name)
    )


async def create_project(session: AsyncSession, *, organization_id: UUID, name: str) -> Project:
    """Make a project. Locks the organization's row. Raises: InvalidRequest, Conflict when there are 100."""
    shown_name = clean_name(name, param="name")
    await lock_organization(session, organization_id)
    count = await session.scalar(select(func.count()).where(Project.organization_id == organization_id))
    if (count or 0) >= PROJECTS_MAX:
        raise Conflict(f"the organization has {count} projects, the most there may be")
    project = Project(organization_id=organization_id, slug=unique_slug(shown_name), name=shown_name)
    session.add(project)
    await session.flush()
    return project


async def rename_project(session: AsyncSession, *, project_id: UUID, name: str) -> None:
    """Give it another name; the slug stays. Raises: InvalidRequest."""
    shown_name = clean_name(name, param="name")
    await session.execute(update(Project).where(Project.id == project_id).values(name=shown_name))


async def archive_project(session: AsyncSession, *, project_id: UUID) -> list[UUID]:
    """End the project and its keys; returns the keys that ended. After the commit, tell `Forgetting.key` of each.

    A repeat changes nothing. Raises: NotFound, Conflict for the default project, which people infer with.
    """
    project = await session.scalar(
        select(Project).where(Project.id == project_id).with_for_update(key_share=True)
    )
    if project is None:
        raise NotFound(f"there is no project {show(Prefix.PROJECT, project_id)!r}", param="project_id")
    if project.slug == DEFAULT_PROJECT_SLUG:
        raise Conflict("the default project stays: people infer with it", param="project_id")
    if project.archived_at is None:
        project.archived_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        await session.flush()
    ended = await session.scalars(
        update(ApiKey)
        .where(ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
        .returning(ApiKey.id)
    )
    return list(ended)
