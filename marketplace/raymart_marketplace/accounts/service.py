"""Rules of identity: signing up, membership, API keys.

Every function takes a session and flushes; the edge commits.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.api_keys import make_key
from raymart_marketplace.accounts.key_terms import stored_models, stored_scopes
from raymart_marketplace.accounts.models import (
    ApiKey,
    Membership,
    Organization,
    OrganizationKind,
    Project,
    Role,
    User,
)
from raymart_marketplace.accounts.names import clean_name, unique_slug
from raymart_marketplace.accounts.password_policy import check_password
from raymart_marketplace.accounts.passwords import hash_password
from raymart_marketplace.accounts.permissions import Permission, permissions_of
from raymart_marketplace.accounts.scopes import DEFAULT_SCOPES, KeyScope

DEFAULT_PROJECT_SLUG = "default"
PLATFORM_SLUG = "raymart"
"""Slug of the one organization of kind platform; its owners and admins administer the marketplace."""
LIVE_KEYS_MAX = 100
"""Keys of one project that are neither revoked nor expired."""


async def sign_up(
    session: AsyncSession,
    *,
    email: str,
    password: str,
    name: str,
    organization_name: str,
    kind: OrganizationKind,
) -> User:
    """Make a user, vouched for by whoever calls, with an organization of their own and its default project.

    People themselves come by `registration`. Raises: InvalidRequest for a bad field, Conflict when the address has an
    account, Forbidden for kind platform: the platform's people are made by `raymart admin create`.
    """
    if kind is OrganizationKind.PLATFORM:
        raise Forbidden("nobody signs up for the platform itself; use `raymart admin create`")
    user = await create_user(session, email=email, password=password, name=name)
    organization = await create_organization(session, name=organization_name, kind=kind)
    await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.OWNER)
    return user


def require_offered_kind(kind: OrganizationKind) -> None:
    """Raises: Forbidden for the platform's own kind, which nobody makes over the API."""
    if kind is OrganizationKind.PLATFORM:
        raise Forbidden("there is one platform; choose CUSTOMER or PROVIDER", param="kind")


async def create_user(session: AsyncSession, *, email: str, password: str, name: str) -> User:
    """Make a user without any membership, whose address the caller vouches for.

    Raises: InvalidRequest, Conflict when the address has an account.
    """
    check_password(password, context=(email, name))
    password_hash = await asyncio.to_thread(hash_password, password)
    made = await add_user(session, email=email, name=name, password_hash=password_hash, is_verified=True)
    if made is None:
        raise Conflict(f"{normal_email(email)!r} has an account already; log in instead", param="email")
    return made


async def add_user(
    session: AsyncSession, *, email: str, name: str, password_hash: str, is_verified: bool
) -> User | None:
    """Make a user; None when the address has an account. `is_verified`: whether the address is known to be theirs.

    Raises: InvalidRequest.
    """
    statement = (
        insert(User)
        .values(
            id=new_id(),
            email=normal_email(email),
            name=clean_name(name, param="name"),
            password_hash=password_hash,
            email_verified_at=func.clock_timestamp() if is_verified else None,
        )
        .on_conflict_do_nothing(index_elements=[User.email])
        .returning(User)
    )
    return (await session.scalars(statement)).one_or_none()


async def create_organization(
    session: AsyncSession, *, name: str, kind: OrganizationKind, slug: str | None = None
) -> Organization:
    """Make an organization with its default project; `slug` is made of the name unless given.

    Raises: InvalidRequest, Conflict when the slug is taken.
    """
    shown_name = clean_name(name, param="organization_name")
    statement = (
        insert(Organization)
        .values(id=new_id(), slug=slug or unique_slug(shown_name), name=shown_name, kind=kind)
        .on_conflict_do_nothing(index_elements=[Organization.slug])
        .returning(Organization)
    )
    made = (await session.scalars(statement)).one_or_none()
    if made is None:
        raise Conflict(f"an organization with the slug {slug!r} exists; choose another", param="slug")
    session.add(Project(organization_id=made.id, slug=DEFAULT_PROJECT_SLUG, name="Default"))
    await session.flush()
    return made


async def platform_organization(session: AsyncSession) -> Organization:
    """The platform's organization, made on first use. Safe to run twice at once."""
    await session.execute(
        insert(Organization)
        .values(id=new_id(), slug=PLATFORM_SLUG, name="Raymart", kind=OrganizationKind.PLATFORM)
        .on_conflict_do_nothing(index_elements=[Organization.slug])
    )
    return (await session.scalars(select(Organization).where(Organization.slug == PLATFORM_SLUG))).one()


async def organization_by_slug(session: AsyncSession, slug: str) -> Organization | None:
    """The organization with this slug."""
    return await session.scalar(select(Organization).where(Organization.slug == slug))


async def add_member(session: AsyncSession, *, organization_id: UUID, user_id: UUID, role: Role) -> None:
    """Give the user `role` in the organization; a repeat changes the role."""
    member = insert(Membership).values(
        id=new_id(), organization_id=organization_id, user_id=user_id, role=role
    )
    await session.execute(
        member.on_conflict_do_update(
            index_elements=[Membership.organization_id, Membership.user_id],
            set_={"role": member.excluded.role},
        )
    )


async def user_by_email(session: AsyncSession, email: str) -> User | None:
    """The user with this address; None also when it is no address."""
    try:
        address = normal_email(email)
    except InvalidRequest:
        return None
    return await session.scalar(select(User).where(User.email == address))


async def set_password(session: AsyncSession, *, user_id: UUID, password: str) -> None:
    """Replace the user's password. Raises: InvalidRequest, NotFound."""
    check_password(password)
    password_hash = await asyncio.to_thread(hash_password, password)
    changed = await session.scalar(
        update(User).where(User.id == user_id).values(password_hash=password_hash).returning(User.id)
    )
    if changed is None:
        raise NotFound(f"there is no user {show(Prefix.USER, user_id)!r}")


async def memberships(session: AsyncSession, user_id: UUID) -> Sequence[tuple[Organization, Role]]:
    """Organizations of the user with the role in each, oldest membership first."""
    found = await session.execute(
        select(Organization, Membership.role)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Membership.user_id == user_id)
        .order_by(Membership.id)
    )
    return [(organization, role) for organization, role in found]


async def role_in(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> Role | None:
    """The user's role in the organization; None for a stranger."""
    return await session.scalar(
        select(Membership.role).where(
            Membership.organization_id == organization_id, Membership.user_id == user_id
        )
    )


async def is_administrator(session: AsyncSession, user_id: UUID) -> bool:
    """Whether the user administers the marketplace: owner or admin in the platform's organization."""
    found = await session.scalar(
        select(Membership.id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(
            Membership.user_id == user_id,
            Membership.role.in_({Role.OWNER, Role.ADMIN}),
            Organization.kind == OrganizationKind.PLATFORM,
        )
    )
    return found is not None


async def projects(session: AsyncSession, organization_id: UUID) -> Sequence[Project]:
    """The organization's projects, oldest first."""
    found = await session.scalars(
        select(Project).where(Project.organization_id == organization_id).order_by(Project.id)
    )
    return found.all()


async def create_api_key(
    session: AsyncSession,
    *,
    project_id: UUID,
    user_id: UUID,
    name: str,
    expires_at: datetime | None = None,
    scopes: Collection[KeyScope] = DEFAULT_SCOPES,
    models: Collection[str] | None = None,
    service_account_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key for the project. The second value is the key itself: show it once, it cannot be had again.

    `models` are the slugs that it may use; None for all. Of a service account: `require_service_account` first.

    Locks the project's row. Raises: NotFound when the user is no member of the project's organization, Forbidden
    when the role does not allow it, InvalidRequest, Conflict when the project has 100 live keys.
    """
    await _require_key_role(session, project_id=project_id, user_id=user_id)
    shown_name = clean_name(name, param="name")
    # The lock keeps two makers from both seeing 99. FOR NO KEY UPDATE: inserting keys elsewhere goes on.
    await session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    live = await session.scalar(select(func.count()).select_from(ApiKey).where(*_live(project_id)))
    if (live or 0) >= LIVE_KEYS_MAX:
        raise Conflict(f"the project has {live} keys, the most there may be; revoke one first")
    secret = make_key()
    key = ApiKey(
        project_id=project_id,
        name=shown_name,
        prefix=secret.prefix,
        key_hash=secret.key_hash,
        created_by=user_id,
        expires_at=expires_at,
        scopes=stored_scopes(scopes),
        models=await stored_models(session, models),
        service_account_id=service_account_id,
    )
    session.add(key)
    await session.flush()
    if expires_at is not None and expires_at <= key.created_at:
        raise InvalidRequest(f"expires_at {expires_at.isoformat()} is in the past", param="expires_at")
    return key, secret.text


async def api_keys(session: AsyncSession, project_id: UUID) -> Sequence[ApiKey]:
    """The project's live keys, oldest first; at most 100 by the limit of `create_api_key`."""
    found = await session.scalars(select(ApiKey).where(*_live(project_id)).order_by(ApiKey.id))
    return found.all()


async def revoke_api_key(session: AsyncSession, *, api_key_id: UUID) -> ApiKey:
    """End the key; a repeat keeps the first time. After the commit, call `Forgetting.key`. Raises: NotFound."""
    revoked = await session.scalar(
        update(ApiKey)
        .where(ApiKey.id == api_key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.clock_timestamp()))
        .returning(ApiKey)
        .execution_options(populate_existing=True)
    )
    if revoked is None:
        raise NotFound(f"there is no API key {show(Prefix.API_KEY, api_key_id)!r}")
    return revoked


async def organization_of_key(session: AsyncSession, api_key_id: UUID) -> UUID | None:
    """Whose key it is, for the permission to revoke it; None when there is none."""
    return await session.scalar(
        select(Project.organization_id)
        .join(ApiKey, ApiKey.project_id == Project.id)
        .where(ApiKey.id == api_key_id)
    )


async def _require_key_role(session: AsyncSession, *, project_id: UUID, user_id: UUID) -> None:
    """Raises: NotFound, Forbidden unless the user may make keys for the project."""
    found = await session.execute(
        select(Organization.kind, Membership.role)
        .join(Project, Project.organization_id == Membership.organization_id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(Project.id == project_id, Project.archived_at.is_(None), Membership.user_id == user_id)
    )
    standing = found.one_or_none()
    if standing is None:
        raise NotFound(f"there is no project {show(Prefix.PROJECT, project_id)!r}", param="project_id")
    kind, role = standing.tuple()
    if Permission.KEYS_MANAGE not in permissions_of(kind, role):
        raise Forbidden(f"your role {role.value!r} may not make keys; ask an owner for the role 'developer'")


def _live(project_id: UUID) -> tuple[ColumnElement[bool], ...]:
    """Conditions of the project's keys that are neither revoked nor expired, by the database's clock."""
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp())
    return (ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None), unexpired)
