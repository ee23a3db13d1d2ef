"""Placements: which revision should run on which node, and what the pool's controller says is true.

A provider's open offer of a published revision is wanted on its nodes as the planner says (`supply.planning`). Pausing
only stops routing, so that resuming needs no loading; closing takes the placement away. Of an offer that another takes
the place of (`rollouts`) no placement is made or woken.

A placement that becomes wanted is a reservation until a controller reports it; one that no controller confirms in time
is given up again (`planning.carrying_out`).
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core import ids
from raymart_core.wire import link
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.catalog.sharing import hosted_by
from raymart_marketplace.pricing.book import database_now
from raymart_marketplace.supply.models import (
    Node,
    NodeState,
    Placement,
    PlacementState,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.planning.passes import plan_provider
from raymart_marketplace.supply.planning.room import REPLICA_CPUS

REASON_CHARACTERS_MAX = 500
COLD_START_MS_MAX = 86_400_000
REPLICAS_SEEN_MAX = 1_000_000
"""Anything above is a controller's mistake, and would not fit its column."""


async def place_offers(session: AsyncSession, *, provider_id: UUID) -> None:
    """Plan the provider's open offers on its living nodes (`supply.planning`). Idempotent; wakes what was unwanted."""
    await plan_provider(session, provider_id)


async def unplace(
    session: AsyncSession, *, node_ids: Collection[UUID], revision_id: UUID | None = None
) -> None:
    """Want `revision_id` (every one when None) off these nodes; the controller drains and removes it."""
    statement = update(Placement).where(Placement.node_id.in_(node_ids), Placement.desired.is_(True))
    if revision_id is not None:
        statement = statement.where(Placement.revision_id == revision_id)
    await session.execute(statement.values(desired=False))


async def desired(session: AsyncSession, pool_id: UUID) -> tuple[link.Placement, ...]:
    """All that should run in the pool, in a stable order. What is missing here must stop running."""
    statement = (
        select(Placement, Node.name, Model.slug, ModelRevision)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Node.pool_id == pool_id,
            Node.revoked_at.is_(None),
            Provider.state == ProviderState.ACTIVE,
            Placement.desired.is_(True),
            # While a machine is measured nothing new is loaded on it; what runs there stays.
            or_(Node.state != NodeState.BENCHMARKING, Placement.confirmed_at.is_not(None)),
            ModelRevision.state.in_(SERVED),
            hosted_by(Provider.organization_id),
        )
        .order_by(Placement.id)
    )
    return tuple(
        link.Placement(
            placement_id=ids.show(ids.Prefix.PLACEMENT, placement.id),
            node=node_name,
            model=slug,
            revision=revision.digest,
            engine=revision.engine,
            source=revision.source,
            sha256=revision.sha256,
            context_length=revision.context_length,
            replicas_min=placement.replicas_min,
            replicas_max=placement.replicas_max,
            slots=placement.slots,
            cpus=REPLICA_CPUS,
            idle_s=placement.idle_s,
            parameters=manifest.parameters if (manifest := manifest_of(revision)) is not None else {},
        )
        for placement, node_name, slug, revision in await session.execute(statement)
    )


async def of_node(session: AsyncSession, node_id: UUID) -> Sequence[tuple[Placement, str, str]]:
    """Each placement of the node that is wanted or not yet gone, oldest first, with its model's slug and its digest."""
    statement = (
        select(Placement, Model.slug, ModelRevision.digest)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Placement.node_id == node_id,
            or_(Placement.desired.is_(True), Placement.state != PlacementState.GONE),
        )
        .order_by(Placement.id)
    )
    return [(placement, slug, digest) for placement, slug, digest in await session.execute(statement)]


async def apply_report(session: AsyncSession, pool_id: UUID, report: link.Report) -> None:
    """Keep what the pool's controller observed. Ids of other pools and unknown ones are ignored.

    Rows that did not change are not written, so that a report with each heartbeat costs one read.
    """
    observed = {
        placement_id: seen
        for seen in report.observed
        if (placement_id := _placement_id(seen.placement_id)) is not None
    }
    if not observed:
        return
    statement = (
        select(Placement)
        .join(Node, Node.id == Placement.node_id)
        .where(Node.pool_id == pool_id, Placement.id.in_(observed))
        .order_by(Placement.id)
        .with_for_update(of=Placement, key_share=True)
    )
    now = await database_now(session)
    for placement in await session.scalars(statement):
        seen = observed[placement.id]
        state = _state(seen, wanted=placement.desired)
        if state is not placement.state:
            placement.state, placement.state_at = state, now
        if placement.desired and seen.state != "gone":
            placement.confirmed_at, placement.confirm_by = placement.confirmed_at or now, None
        if state is PlacementState.RUNNING:
            placement.releases, placement.retry_at = 0, None
        if seen.cold_start_ms is not None:
            placement.cold_start_ms = min(max(0, seen.cold_start_ms), COLD_START_MS_MAX)
        placement.replicas_running = min(max(0, seen.replicas), REPLICAS_SEEN_MAX)
        placement.restarts = min(max(0, seen.restarts), REPLICAS_SEEN_MAX)
        # PostgreSQL's text holds no NUL.
        placement.reason = seen.reason.replace("\0", "")[:REASON_CHARACTERS_MAX]
    await session.flush()


def _placement_id(text: str) -> UUID | None:
    """The id that a controller wrote; None when it is none of ours."""
    try:
        return ids.parse(ids.Prefix.PLACEMENT, text)
    except ValueError:
        return None


def _state(seen: link.Observed, *, wanted: bool) -> PlacementState:
    """The state to keep: whatever still runs though it should not is draining."""
    if not wanted and seen.state in {"placing", "running"}:
        return PlacementState.DRAINING
    return PlacementState(seen.state)
