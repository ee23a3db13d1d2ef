"""Service accounts: members that are no people, for programs that must outlive whoever set them up.

Its keys do what their scopes say, as far as its role may. Disabling it ends all of them. Takes a session, flushes, never
commits.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import (
    ApiKey,
    Membership,
    Organization,
    OrganizationKind,
    Role,
    ServiceAccount,
)
from raymart_marketplace.accounts.names import clean_name
from raymart_marketplace.accounts.permissions import TABLE, Permission, grantable_roles, permissions_of
from raymart_marketplace.accounts.scopes import ALL_SCOPES, KeyScope

LIVE_MAX = 100
"""Service accounts of one organization that are not disabled."""
_NEEDED: Mapping[KeyScope, Permission] = {
    KeyScope.INFERENCE: Permission.INFER,
    KeyScope.USAGE_READ: Permission.USAGE_READ,
    KeyScope.KEYS_READ: Permission.KEYS_READ,
}


def scopes_within(kind: OrganizationKind, role: Role) -> frozenset[KeyScope]:
    """What a key may do at most for a service account with `role` in an organization of `kind`."""
    granted = permissions_of(kind, role)
    return frozenset(scope for scope in ALL_SCOPES if scope not in _NEEDED or _NEEDED[scope] in granted)


async def create_service_account(
    session: AsyncSession, *, organization_id: UUID, user_id: UUID, name: str, role: Role
) -> ServiceAccount:
    """Make one; nobody gives it more than their own role may give. Locks the organization's row.

    Raises: InvalidRequest for a role that the organization has not, NotFound, Forbidden, Conflict when there are 100.
    """
    shown_name = clean_name(name, param="name")
    organization = await session.scalar(
        select(Organization).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    own = await session.scalar(
        select(Membership.role).where(
            Membership.organization_id == organization_id, Membership.user_id == user_id
        )
    )
    if organization is None or own is None:
        raise NotFound(
            f"there is no organization {show(Prefix.ORGANIZATION, organization_id)!r}",
            param="organization_id",
        )
    if role is Role.OWNER or role not in TABLE[organization.kind]:
        raise InvalidRequest(
            f"a service account of this organization has no role {role.value!r}", param="role"
        )
    if role not in grantable_roles(organization.kind, own):
        raise Forbidden(f"your role {own.value!r} may not give the role {role.value!r}", param="role")
    live = await session.scalar(
        select(func.count()).where(
            ServiceAccount.organization_id == organization_id, ServiceAccount.disabled_at.is_(None)
        )
    )
    if (live or 0) >= LIVE_MAX:
        raise Conflict(
            f"the organization has {live} service accounts, the most there may be; disable one first"
        )
    made = ServiceAccount(organization_id=organization_id, name=shown_name, role=role, created_by=user_id)
    session.add(made)
    await session.flush()
    return made


async def disable_service_account(session: AsyncSession, *, service_account_id: UUID) -> ServiceAccount:
    """End the account and all its keys; a repeat keeps the first time. Raises: NotFound.

    After the commit, call `Forgetting.key` for each of `keys_of`.
    """
    disabled = await session.scalar(
        update(ServiceAccount)
        .where(ServiceAccount.id == service_account_id)
        .values(disabled_at=func.coalesce(ServiceAccount.disabled_at, func.clock_timestamp()))
        .returning(ServiceAccount)
        .execution_options(populate_existing=True)
    )
    if disabled is None:
        raise NotFound(
            f"there is no service account {show(Prefix.SERVICE_ACCOUNT, service_account_id)!r}",
            param="service_account_id",
        )
    return disabled


async def keys_of(session: AsyncSession, service_account_id: UUID) -> Collection[UUID]:
    """Its keys that are not revoked."""
    found = await session.scalars(
        select(ApiKey.id).where(ApiKey.service_account_id == service_account_id, ApiKey.revoked_at.is_(None))
    )
    return found.all()


async def require_service_account(
    session: AsyncSession, *, service_account_id: UUID, organization_id: UUID, scopes: Collection[KeyScope]
) -> None:
    """Check that a key with `scopes` may be made for the organization's account. Locks the account's row.

    Raises: NotFound also for another organization's, Conflict when it is disabled, InvalidRequest for a scope too much.
    """
    found = (
        await session.execute(
            select(ServiceAccount, Organization.kind)
            .join(Organization, Organization.id == ServiceAccount.organization_id)
            .where(ServiceAccount.id == service_account_id, ServiceAccount.organization_id == organization_id)
            .with_for_update(key_share=True, of=ServiceAccount)
        )
    ).one_or_none()
    if found is None:
        raise NotFound(
            f"there is no service account {show(Prefix.SERVICE_ACCOUNT, service_account_id)!r} in this organization",
            param="service_account_id",
        )
    account, kind = found.tuple()
    if account.disabled_at is not None:
        raise Conflict("the service account is disabled; make another", param="service_account_id")
    beyond = set(scopes) - scopes_within(kind, account.role)
    if beyond:
        raise InvalidRequest(
            f"the service account's role {account.role.value!r} does not allow {', '.join(sorted(beyond))}",
            param="scopes",
        )
