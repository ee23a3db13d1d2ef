"""Erasing an organization, in one transaction: afterwards nobody can log in to it, spend in it, or tell who it was.

Rows of the books stay, for the sums of everybody else hang on them; `dispositions` says of each column what becomes of it.
"""

# ruff: noqa: S608 - statements are put together from names of our own; what is given are parameters.
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.holds import block_organization
from raymart_billing.privacy.dispositions import DELETED, REPLACED
from raymart_billing.privacy.models import OrganizationErasure
from raymart_billing.privacy.obstacles import obstacles
from raymart_core.errors import RaymartError
from raymart_marketplace.accounts.models import ApiKey, Membership, Organization, Project, User
from raymart_marketplace.accounts.passwords import NOBODYS_HASH

_FORGET = text("select audit_forget_origins(:actor, :organization, null)")


class ErasureWaits(RaymartError):
    """Something stands in the way; nothing may be committed."""

    def __init__(self, obstacles: Sequence[str]) -> None:
        super().__init__("; ".join(obstacles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """Whose credentials and cached answers every process must forget now."""

    organization_id: UUID
    users: Sequence[UUID]
    keys: Sequence[UUID]


async def erase(session: AsyncSession, erasure_id: UUID) -> Erased | None:
    """Erase what the erasure names, in this transaction; None when it is not due, cancelled or done.

    Locks the erasure, the organization, its accounts and its people until the transaction ends. Raises: ErasureWaits.
    """
    erasure = await _take(session, erasure_id)
    if erasure is None:
        return None
    organization_id = erasure.organization_id
    # For update: whoever inserts something of the organization waits, and then finds it erased.
    await session.execute(select(Organization.id).where(Organization.id == organization_id).with_for_update())
    await block_organization(session, organization_id=organization_id, reason="erased", actor_id=None)
    found = await obstacles(session, organization_id)
    if found:
        raise ErasureWaits(found)
    members = (
        await session.scalars(select(Membership.user_id).where(Membership.organization_id == organization_id))
    ).all()
    keys = (
        await session.scalars(
            select(ApiKey.id)
            .join(Project, Project.id == ApiKey.project_id)
            .where(Project.organization_id == organization_id)
        )
    ).all()
    users = await _only_here(session, organization_id, members)
    await _rewrite(session, organization_id, users)
    await session.execute(
        update(OrganizationErasure)
        .where(OrganizationErasure.id == erasure_id)
        .values(erased_at=func.clock_timestamp(), waits_for=None)
    )
    return Erased(organization_id=erasure.organization_id, users=members, keys=keys)


async def _take(session: AsyncSession, erasure_id: UUID) -> OrganizationErasure | None:
    return await session.scalar(
        select(OrganizationErasure)
        .where(
            OrganizationErasure.id == erasure_id,
            OrganizationErasure.cancelled_at.is_(None),
            OrganizationErasure.erased_at.is_(None),
            OrganizationErasure.due_at <= func.clock_timestamp(),
        )
        .with_for_update()
    )


async def _only_here(session: AsyncSession, organization_id: UUID, members: Sequence[UUID]) -> Sequence[UUID]:
    """Those of `members` who are in no other organization, and, locked as they are, get into none meanwhile."""
    await session.execute(select(User.id).where(User.id.in_(members)).order_by(User.id).with_for_update())
    elsewhere = set(
        await session.scalars(
            select(Membership.user_id).where(
                Membership.user_id.in_(members), Membership.organization_id != organization_id
            )
        )
    )
    return [user_id for user_id in members if user_id not in elsewhere]


async def _rewrite(session: AsyncSession, organization_id: UUID, users: Sequence[UUID]) -> None:
    for actor in [*users, None]:
        await session.execute(_FORGET, {"actor": actor, "organization": None if actor else organization_id})
    given = {
        "id": organization_id,
        "users": list(users),
        "pseudonym": f"erased-{secrets.token_hex(4)}",
        "nobodys_hash": NOBODYS_HASH,
    }
    # First: what an alias names cannot be withdrawn.
    for table, rows in DELETED.items():
        await _execute(session, f'delete from "{table}" where {rows}', given)
    for table, (rows, values) in REPLACED.items():
        changes = ", ".join(f'"{column}" = {value}' for column, value in values.items())
        await _execute(session, f'update "{table}" set {changes} where {rows}', given)


async def _execute(session: AsyncSession, statement: str, given: Mapping[str, object]) -> None:
    made = text(statement)
    if ":users" in statement:
        made = made.bindparams(bindparam("users", type_=ARRAY(Uuid)))
    await session.execute(made, {name: value for name, value in given.items() if f":{name}" in statement})


async def note_obstacles(session: AsyncSession, erasure_id: UUID, waits: ErasureWaits) -> None:
    """Show people what an erasure that is due waits for."""
    await session.execute(
        update(OrganizationErasure)
        .where(
            OrganizationErasure.id == erasure_id,
            OrganizationErasure.cancelled_at.is_(None),
            OrganizationErasure.erased_at.is_(None),
        )
        .values(waits_for=str(waits))
    )
