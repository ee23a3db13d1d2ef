"""Placements: which revision should run on which node, and what the pool's controller says is true.

A provider's open (or paused) offer of a published revision is wanted on each of the provider's living nodes. Pausing
only stops routing, so that resuming needs no loading; closing takes the placement away. Of an offer that another takes
the place of (`rollouts`) no placement is made or woken.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core import ids
from raymart_core.wire import link
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.catalog.sharing import hosted_by
from raymart_marketplace.supply.models import (
    Node,
    NodeRole,
    Offer,
    OfferState,
    Placement,
    PlacementState,
    Provider,
    ProviderState,
)

REPLICAS_MIN = 1
REPLICAS_MAX = 1
SLOTS = 4
"""Range and concurrency of a new placement, until demand and benchmarks choose them."""
REASON_CHARACTERS_MAX = 500
REPLICAS_SEEN_MAX = 1_000_000
"""Anything above is a controller's mistake, and would not fit its column."""


async def place_offers(session: AsyncSession, *, provider_id: UUID) -> None:
    """Want each open offer's revision on each living node of the provider. Idempotent; wakes what was unwanted."""
    statement = (
        select(Node.id, Offer.revision_id)
        .join(Offer, Offer.provider_id == Node.provider_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .where(
            Node.provider_id == provider_id,
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Offer.state == OfferState.OPEN,
            Offer.succeeded_by.is_(None),
            ModelRevision.state == RevisionState.PUBLISHED,
        )
        # In one order for everybody, so that two of these cannot wait for each other's rows.
        .order_by(Node.id, Offer.revision_id)
    )
    rows = [
        {
            "id": ids.new_id(),
            "node_id": node_id,
            "revision_id": revision_id,
            "replicas_min": REPLICAS_MIN,
            "replicas_max": REPLICAS_MAX,
            "slots": SLOTS,
            "state": PlacementState.REQUESTED,
        }
        for node_id, revision_id in await session.execute(statement)
    ]
    if rows:
        wanted = {"desired": True, "state": PlacementState.REQUESTED, "reason": ""}
        await session.execute(
            insert(Placement)
            .values(rows)
            .on_conflict_do_update(
                index_elements=[Placement.node_id, Placement.revision_id],
                set_=wanted,
                where=Placement.desired.is_(False),
            )
        )


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
    for placement in await session.scalars(statement):
        seen = observed[placement.id]
        placement.state = _state(seen, wanted=placement.desired)
        placement.replicas_running = min(max(0, seen.replicas), REPLICAS_SEEN_MAX)
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
