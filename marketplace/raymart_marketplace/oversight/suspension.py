"""Suspending and lifting. Functions flush; the edge commits, and then tells `live.LiveControls` of its own process.

The effect on what runs is within seconds in every process: the gateway asks `LiveControls` before it holds any money,
routing drops a suspended provider's offers when it next reads them (2 s), and a person's `disabled_at` ends every session.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import ApiKey, Organization, OrganizationKind, Project, User
from raymart_marketplace.db.base import Row
from raymart_marketplace.oversight.models import SubjectKind, Suspension
from raymart_marketplace.oversight.reasons import checked_reason
from raymart_marketplace.supply import provider_life
from raymart_marketplace.supply.life_models import ProviderEventKind
from raymart_marketplace.supply.models import Provider, ProviderState

log = structlog.get_logger()

PREFIXES = {
    SubjectKind.ORGANIZATION: Prefix.ORGANIZATION,
    SubjectKind.USER: Prefix.USER,
    SubjectKind.PROVIDER: Prefix.PROVIDER,
    SubjectKind.API_KEY: Prefix.API_KEY,
}
_ENTITIES: Mapping[SubjectKind, type[Row]] = {
    SubjectKind.ORGANIZATION: Organization,
    SubjectKind.USER: User,
    SubjectKind.PROVIDER: Provider,
    SubjectKind.API_KEY: ApiKey,
}
_ENABLED, _DISABLED = "enabled", "disabled"
# FOR NO KEY UPDATE: child inserts take KEY SHARE on these rows and need not wait.
_LOCK = {"key_share": True}


async def suspend(
    session: AsyncSession, kind: SubjectKind, subject_id: UUID, *, reason: str, actor_id: UUID
) -> Suspension:
    """Suspend the subject from the commit on, until `lift`. Locks its row.

    Raises: InvalidRequest, NotFound, Conflict when it is suspended already, Forbidden for the marketplace itself and for
    `actor_id` themselves.
    """
    checked = checked_reason(reason)
    organization_id, restores = await _take(session, kind, subject_id, reason=checked, actor_id=actor_id)
    suspension = Suspension(
        kind=kind,
        subject_id=subject_id,
        organization_id=organization_id,
        reason=checked,
        actor_id=actor_id,
        restores=restores,
    )
    session.add(suspension)
    await session.flush()
    log.warning("subject.suspended", kind=kind.value, subject_id=str(subject_id), actor_id=str(actor_id))
    return suspension


async def lift(
    session: AsyncSession, kind: SubjectKind, subject_id: UUID, *, reason: str, actor_id: UUID
) -> Suspension:
    """End the suspension and make the subject what it was. Raises: InvalidRequest, Conflict when none stands."""
    checked = checked_reason(reason)
    standing = await session.scalar(
        select(Suspension)
        .where(Suspension.kind == kind, Suspension.subject_id == subject_id, Suspension.lifted_at.is_(None))
        .with_for_update()
    )
    if standing is None:
        raise Conflict(
            f"{show(PREFIXES[kind], subject_id)} is not suspended; nothing was changed", param="subject_id"
        )
    await _give_back(session, standing, reason=checked)
    now = await session.scalar(select(func.clock_timestamp()))
    standing.lifted_at, standing.lifted_by, standing.lifted_reason = now, actor_id, checked
    await session.flush()
    log.warning("subject.reinstated", kind=kind.value, subject_id=str(subject_id), actor_id=str(actor_id))
    return standing


async def withheld_providers(session: AsyncSession, provider_ids: Collection[UUID]) -> frozenset[UUID]:
    """Those of the providers that may not be paid now, because they or their organizations are suspended."""
    own = select(Provider.id).join(
        Suspension,
        (Suspension.subject_id == Provider.id) | (Suspension.subject_id == Provider.organization_id),
    )
    found = await session.scalars(
        own.where(
            Provider.id.in_(provider_ids),
            Suspension.kind.in_((SubjectKind.PROVIDER, SubjectKind.ORGANIZATION)),
            Suspension.lifted_at.is_(None),
        )
    )
    return frozenset(found)


async def _take(
    session: AsyncSession, kind: SubjectKind, subject_id: UUID, *, reason: str, actor_id: UUID
) -> tuple[UUID | None, str]:
    """Lock the subject and take from it what its own row says. Returns (its organization, what it was)."""
    entity: type[Row] = _ENTITIES[kind]
    subject = await session.get(entity, subject_id, with_for_update=_LOCK, populate_existing=True)
    if subject is None:
        raise NotFound(f"there is no {show(PREFIXES[kind], subject_id)!r}", param=f"{kind.value}_id")
    await _refuse_second(session, kind, subject_id)
    match subject:
        case Organization(kind=OrganizationKind.PLATFORM):
            raise Forbidden("the marketplace does not suspend itself; take members out instead")
        case Organization():
            return subject.id, ""
        case User(id=user_id) if user_id == actor_id:
            raise Forbidden("nobody suspends themselves; ask another administrator")
        case User():
            restores = _ENABLED if subject.disabled_at is None else _DISABLED
            now = await session.scalar(select(func.clock_timestamp()))
            subject.disabled_at = subject.disabled_at or now
            return None, restores
        case Provider():
            before = subject.state
            await provider_life.change(
                session, subject, ProviderEventKind.SUSPENDED, ProviderState.SUSPENDED, reason=reason
            )
            return subject.organization_id, before.value
        case ApiKey():
            return (await session.get_one(Project, subject.project_id)).organization_id, ""
    raise AssertionError(f"a {kind.value} is none of the tables that can be suspended")


async def _refuse_second(session: AsyncSession, kind: SubjectKind, subject_id: UUID) -> None:
    """Raises: Conflict. The subject is locked, so of two at once the second finds the first's; an index holds it besides."""
    standing = await session.scalar(
        select(Suspension.id).where(
            Suspension.kind == kind, Suspension.subject_id == subject_id, Suspension.lifted_at.is_(None)
        )
    )
    if standing is not None:
        raise Conflict(f"{show(PREFIXES[kind], subject_id)} is suspended already", param=f"{kind.value}_id")


async def _give_back(session: AsyncSession, standing: Suspension, *, reason: str) -> None:
    if standing.kind is SubjectKind.USER and standing.restores == _ENABLED:
        user = await session.get_one(User, standing.subject_id, with_for_update=_LOCK)
        user.disabled_at = None
    elif standing.kind is SubjectKind.PROVIDER:
        provider = await session.get_one(Provider, standing.subject_id, with_for_update=_LOCK)
        after = ProviderState(standing.restores)
        await provider_life.change(session, provider, ProviderEventKind.REINSTATED, after, reason=reason)
