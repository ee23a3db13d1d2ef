"""Members of an organization: roles, leaving, handing over. After the commit, tell `Forgetting.user`.

Every change locks the organization's row first, so that two owners who leave at once do not both see the other.
"""

from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import Membership, Organization, OrganizationKind, Role
from raymart_marketplace.accounts.permissions import TABLE, grantable_roles


async def change_role(
    session: AsyncSession, *, organization_id: UUID, actor_id: UUID, user_id: UUID, role: Role
) -> None:
    """Give a member another role. Raises: NotFound, Forbidden for a role above the actor's own, Conflict for the last owner."""
    kind = await lock_organization(session, organization_id)
    own = await role_of(session, organization_id=organization_id, user_id=actor_id)
    present = await _member(session, organization_id=organization_id, user_id=user_id)
    # Neither given nor taken: an admin makes no owner, and unmakes none.
    require_grantable(kind, own, present)
    require_grantable(kind, own, role)
    if present is Role.OWNER and role is not Role.OWNER:
        await _require_another_owner(session, organization_id)
    await _set_role(session, organization_id=organization_id, user_id=user_id, role=role)


async def remove_member(
    session: AsyncSession, *, organization_id: UUID, actor_id: UUID, user_id: UUID
) -> None:
    """End a membership. Raises: NotFound, Forbidden for somebody above the actor, Conflict for the last owner."""
    kind = await lock_organization(session, organization_id)
    own = await role_of(session, organization_id=organization_id, user_id=actor_id)
    present = await _member(session, organization_id=organization_id, user_id=user_id)
    require_grantable(kind, own, present)
    await _end(session, organization_id=organization_id, user_id=user_id, role=present)


async def leave(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> None:
    """End one's own membership. Raises: NotFound, Conflict for the last owner."""
    await lock_organization(session, organization_id)
    present = await _member(session, organization_id=organization_id, user_id=user_id)
    await _end(session, organization_id=organization_id, user_id=user_id, role=present)


async def transfer_ownership(
    session: AsyncSession, *, organization_id: UUID, owner_id: UUID, user_id: UUID
) -> None:
    """Make another member owner, and the owner an admin. Raises: NotFound, Forbidden, Conflict for oneself."""
    await lock_organization(session, organization_id)
    own = await role_of(session, organization_id=organization_id, user_id=owner_id)
    if own is not Role.OWNER:
        raise Forbidden("only an owner hands an organization over")
    if owner_id == user_id:
        raise Conflict("you are the owner already", param="user_id")
    await _member(session, organization_id=organization_id, user_id=user_id)
    await _set_role(session, organization_id=organization_id, user_id=user_id, role=Role.OWNER)
    await _set_role(session, organization_id=organization_id, user_id=owner_id, role=Role.ADMIN)


async def lock_organization(session: AsyncSession, organization_id: UUID) -> OrganizationKind:
    """Have the organization's members to oneself until the commit; returns its kind. Raises: NotFound."""
    kind = await session.scalar(
        select(Organization.kind).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    if kind is None:
        raise NotFound(f"there is no organization {show(Prefix.ORGANIZATION, organization_id)!r}")
    return kind


async def role_of(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> Role | None:
    """The user's role there; None for a stranger."""
    return await session.scalar(
        select(Membership.role).where(
            Membership.organization_id == organization_id, Membership.user_id == user_id
        )
    )


def require_grantable(kind: OrganizationKind, own: Role | None, role: Role) -> None:
    """Raises: Forbidden unless a member in `own` may give and take `role`."""
    if own is not None and role in grantable_roles(kind, own):
        return
    if role not in TABLE[kind]:
        offered = ", ".join(sorted(each.value for each in TABLE[kind]))
        raise Forbidden(
            f"{kind.value} organizations have no {role.value!r}; they have {offered}", param="role"
        )
    shown = "no role" if own is None else f"the role {own.value!r}"
    raise Forbidden(f"{shown} of yours gives or takes {role.value!r}; ask an owner", param="role")


async def _member(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> Role:
    role = await role_of(session, organization_id=organization_id, user_id=user_id)
    if role is None:
        raise NotFound(f"{show(Prefix.USER, user_id)!r} is no member", param="user_id")
    return role


async def _set_role(session: AsyncSession, *, organization_id: UUID, user_id: UUID, role: Role) -> None:
    await session.execute(
        update(Membership)
        .where(Membership.organization_id == organization_id, Membership.user_id == user_id)
        .values(role=role)
    )


async def _end(session: AsyncSession, *, organization_id: UUID, user_id: UUID, role: Role) -> None:
    if role is Role.OWNER:
        await _require_another_owner(session, organization_id)
    await session.execute(
        delete(Membership).where(Membership.organization_id == organization_id, Membership.user_id == user_id)
    )


async def _require_another_owner(session: AsyncSession, organization_id: UUID) -> None:
    owners = await session.scalar(
        select(func.count()).where(
            Membership.organization_id == organization_id, Membership.role == Role.OWNER
        )
    )
    if (owners or 0) < 2:
        raise Conflict("an organization keeps one owner at least; hand it over first (`transferOwnership`)")
