"""Who asks: nobody, a person with an access token, or the holder of an API key."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import NotAuthenticated
from raymart_graphql.keyset import rows_of
from raymart_graphql.reading import Reading
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.invitation_models import SupportAccess
from raymart_marketplace.accounts.models import Membership, Organization, OrganizationKind, Role, User
from raymart_marketplace.accounts.permissions import TENANT_READS, Permission, permissions_of, reach_of
from raymart_marketplace.accounts.support_access import open_accesses
from raymart_marketplace.db.tenancy import Confinement

MEMBERSHIPS_MAX = 1_000
"""Memberships of one person that count; far above any real one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A person's role in one organization."""

    organization_id: UUID
    kind: OrganizationKind
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Exactly one of `user_id` and `caller` is set, or neither for nobody."""

    user_id: UUID | None = None
    caller: Caller | None = None
    """Set for the holder of an API key."""
    standings: Mapping[UUID, Standing] = field(default_factory=dict)
    """By organization."""
    looks: frozenset[UUID] = frozenset()
    """Organizations that one of the platform's support may look into at this moment."""

    def may(self, permission: Permission, organization_id: UUID) -> bool:
        """Whether they may do this in the organization, as a member or as one of the platform's people."""
        standing = self.standings.get(organization_id)
        is_members = standing is not None and permission in permissions_of(standing.kind, standing.role)
        return is_members or self.reaches(permission) or self._looks_at(permission, organization_id)

    def _looks_at(self, permission: Permission, organization_id: UUID) -> bool:
        """By an open access of support, which is for reading alone and ends with the role that it is given for."""
        return (
            organization_id in self.looks
            and permission in TENANT_READS
            and self.may_in_market(Permission.PLATFORM_SUPPORT)
        )

    def reaches(self, permission: Permission) -> bool:
        """Whether they may do this in every organization. Only reading is ever allowed so widely."""
        return any(
            permission in reach_of(standing.kind, standing.role) for standing in self.standings.values()
        )

    def may_in_market(self, permission: Permission) -> bool:
        """Whether they may do this over the whole market, as one of the platform's people."""
        return any(
            standing.kind is OrganizationKind.PLATFORM
            and permission in permissions_of(standing.kind, standing.role)
            for standing in self.standings.values()
        )

    @property
    def confinement(self) -> Confinement | None:
        """Whose rows the database shows them; None for all, to those of the platform who see every tenant."""
        if any(reach_of(standing.kind, standing.role) for standing in self.standings.values()):
            return None
        callers = {self.caller.organization_id} if self.caller is not None else set()
        looks = self.looks if self.may_in_market(Permission.PLATFORM_SUPPORT) else frozenset[UUID]()
        return Confinement(
            organizations=frozenset(self.standings) | callers | looks,
            user_id=self.user_id,
            sees_market=self.may_in_market(Permission.PLATFORM_MARKET_READ),
        )

    def role_in(self, organization_id: UUID) -> Role | None:
        """The person's role there, None for a stranger."""
        standing = self.standings.get(organization_id)
        return standing.role if standing else None


ANONYMOUS = Principal()


async def identify(authorization: bytes, authenticator: Authenticator, reading: Reading) -> Principal:
    """Read an `Authorization` header: "Bearer rm_live_..." is a key, anything else an access token.

    From then on `reading` sees what they may see. Raises: NotAuthenticated.
    """
    _, _, credential = authorization.partition(b" ")
    if credential.lstrip().startswith(b"rm_"):
        principal = Principal(caller=await authenticator.caller(authorization))
    else:
        principal = await _person(authorization, authenticator, reading)
    reading.confinement = principal.confinement
    return principal


async def _person(authorization: bytes, authenticator: Authenticator, reading: Reading) -> Principal:
    """Raises: NotAuthenticated."""
    claims = await authenticator.user(authorization)
    async with reading.trusted_session() as session:
        found = await principals_of(session, [claims.user_id])
    if claims.user_id not in found:
        raise NotAuthenticated("this access token's user no longer exists or is disabled")
    return found[claims.user_id]


async def principals_of(session: AsyncSession, user_ids: Collection[UUID]) -> Mapping[UUID, Principal]:
    """People with their roles, by id, in one statement; without who is disabled or gone."""
    rows = await rows_of(session, _STANDINGS, {"user_ids": list(user_ids)})
    standings: dict[UUID, dict[UUID, Standing]] = {}
    looks: dict[UUID, frozenset[UUID]] = {}
    for user_id, joined, kind, role, looked_at in rows:
        looks[user_id] = frozenset(looked_at)
        of_user = standings.setdefault(user_id, {})
        # An outer join, which its type does not tell.
        organization_id = cast("UUID | None", joined)
        if organization_id is not None and len(of_user) < MEMBERSHIPS_MAX:
            of_user[organization_id] = Standing(organization_id=organization_id, kind=kind, role=role)
    return {
        user_id: Principal(user_id=user_id, standings=found, looks=looks[user_id])
        for user_id, found in standings.items()
    }


_LOOKS = (
    select(SupportAccess.organization_id).where(*open_accesses(User.id)).correlate(User).scalar_subquery()
)
# Made once, and sent with every operation of a person.
_STANDINGS = (
    select(
        User.id,
        Membership.organization_id,
        Organization.kind,
        Membership.role,
        func.array(_LOOKS, type_=ARRAY(Uuid())),
    )
    .select_from(User)
    .outerjoin(Membership, Membership.user_id == User.id)
    .outerjoin(Organization, Organization.id == Membership.organization_id)
    .where(User.id == any_(bindparam("user_ids", type_=ARRAY(Uuid()))), User.disabled_at.is_(None))
)
