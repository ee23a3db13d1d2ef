"""From tables to what the planner looks at: a fixed number of statements for any number of providers."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_core.wire.link import Hardware
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.effective import PriceBook, Sold, price_offer
from raymart_marketplace.supply.models import (
    Node,
    NodeRole,
    NodeState,
    Offer,
    OfferState,
    Placement,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.planning.choices import Choices, hours_of_json
from raymart_marketplace.supply.planning.fit import Weights
from raymart_marketplace.supply.planning.snapshot import Machine, Misfit, OfferWish, Placed, Snapshot
from raymart_marketplace.supply.planning.tables import ModelPlacement, PlacementRejection

log = structlog.get_logger()

_PLANNED = (ProviderState.APPLIED, ProviderState.ACTIVE)
_WITH_CONTEXT = frozenset({Modality.CHAT})


async def load_snapshots(
    session: AsyncSession,
    at: datetime,
    *,
    book: PriceBook,
    provider_ids: Collection[UUID] | None = None,
    all_away: bool = False,
) -> Mapping[UUID, Snapshot]:
    """Of these providers, or of all that have an open offer. `at` is the database's time.

    `all_away`: a large share of the market went away at once, which is taken for our own fault; nobody counts as away.
    """
    offers = await _offers(session, provider_ids)
    terms = await load_terms(session, [offer.id for offer, _, _ in offers])
    asked = await _asked(session, {revision.model_id for _, revision, _ in offers})
    ways = await _giving_way(session, [offer.id for offer, _, _ in offers])
    of_provider: dict[UUID, list[OfferWish]] = defaultdict(list)
    for offer, revision, modality in offers:
        of_provider[offer.provider_id].append(
            OfferWish(
                id=offer.id,
                revision_id=revision.id,
                digest=revision.digest,
                weights=weights_of(revision, modality),
                choices=choices_of(offer),
                asked=asked.get(revision.model_id, 0),
                unsellable=price_offer(terms[offer.id], _sold(offer, revision, modality), book, at).reason,
                gives_way=frozenset(ways.get(offer.id, ())),
            )
        )
    machines = await _machines(session, of_provider.keys(), at if all_away else None)
    placed = await _placed(session, of_provider.keys())
    said = await _said(session, of_provider.keys())
    return {
        provider_id: Snapshot(
            at=at,
            machines=tuple(machines.get(provider_id, ())),
            offers=tuple(wishes),
            placed=placed.get(provider_id, {}),
            said=said.get(provider_id, {}),
        )
        for provider_id, wishes in of_provider.items()
    }


def choices_of(offer: Offer) -> Choices:
    """What the provider chose for the offer."""
    return Choices(
        warmth=offer.warmth,
        replicas_max=offer.replicas_max,
        nodes_max=offer.nodes_max,
        gpus_max=offer.gpus_max,
        idle_s=offer.idle_s,
        hours=hours_of_json(offer.hours),
        node_ids=frozenset(offer.node_ids),
    )


def weights_of(revision: ModelRevision, modality: Modality) -> Weights:
    """What decides the size of a replica of `revision`."""
    try:
        manifest = manifest_of(revision)
    except InvalidRequest:  # A manifest that cannot be read is found, and said, by whoever serves it.
        manifest = None
    return Weights(
        engine=revision.engine,
        quantization=revision.quantization,
        size_bytes=revision.size_bytes,
        context_length=revision.context_length,
        parameters=manifest.parameters if manifest is not None else {},
        tokens=modality in _WITH_CONTEXT,
    )


async def _offers(
    session: AsyncSession, provider_ids: Collection[UUID] | None
) -> Sequence[tuple[Offer, ModelRevision, Modality]]:
    statement = (
        select(Offer, ModelRevision, Model.modality)
        .join(Provider, Provider.id == Offer.provider_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Offer.state == OfferState.OPEN,
            Offer.succeeded_by.is_(None),
            ModelRevision.state == RevisionState.PUBLISHED,
            Provider.state.in_(_PLANNED),
        )
        .order_by(Offer.id)
        .execution_options(populate_existing=True)
    )
    if provider_ids is not None:
        statement = statement.where(Offer.provider_id.in_(provider_ids))
    return [(offer, revision, modality) for offer, revision, modality in await session.execute(statement)]


async def _asked(session: AsyncSession, model_ids: Collection[UUID]) -> Mapping[UUID, int]:
    statement = select(ModelPlacement.model_id, ModelPlacement.asked, ModelPlacement.waiting)
    found = await session.execute(statement.where(ModelPlacement.model_id.in_(model_ids)))
    return {model_id: asked + waiting for model_id, asked, waiting in found}


async def _giving_way(session: AsyncSession, offer_ids: Collection[UUID]) -> Mapping[UUID, list[UUID]]:
    statement = select(Offer.succeeded_by, Offer.revision_id).where(
        Offer.succeeded_by.in_(offer_ids), Offer.state != OfferState.CLOSED
    )
    found: dict[UUID, list[UUID]] = defaultdict(list)
    for successor_id, revision_id in await session.execute(statement):
        if successor_id is not None:
            found[successor_id].append(revision_id)
    return found


def _sold(offer: Offer, revision: ModelRevision, modality: Modality) -> Sold:
    return Sold(
        model_id=revision.model_id,
        revision_id=revision.id,
        provider_id=offer.provider_id,
        modality=modality,
    )


async def _machines(
    session: AsyncSession, provider_ids: Collection[UUID], seen_at: datetime | None
) -> Mapping[UUID, list[Machine]]:
    statement = (
        select(Node)
        .where(
            Node.provider_id.in_(provider_ids),
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Node.state != NodeState.RETIRED,
        )
        .order_by(Node.id)
        .execution_options(populate_existing=True)
    )
    found: dict[UUID, list[Machine]] = defaultdict(list)
    for node in await session.scalars(statement):
        assert node.provider_id is not None
        found[node.provider_id].append(machine_of(node, seen_at=seen_at or node.last_seen_at))
    return found


def machine_of(node: Node, *, seen_at: datetime | None) -> Machine:
    """The node as its agent described it. What a card's slices hold is not counted: they are not given to replicas."""
    hardware = _hardware(node)
    return Machine(
        id=node.id,
        name=node.name,
        state=node.state,
        seen_at=seen_at,
        cpu_count=hardware.cpu_count,
        memory_bytes=hardware.memory_bytes,
        disk_bytes=hardware.disk_bytes,
        gpu_memory_bytes=tuple(gpu.memory_bytes for gpu in hardware.gpus if not gpu.mig),
        cached=frozenset(node.cached),
    )


def _hardware(node: Node) -> Hardware:
    """What it announced last; a machine that holds nothing where that cannot be read, so that the others are planned."""
    try:
        return msgspec.convert(node.hardware, Hardware)
    except msgspec.ValidationError as error:
        log.warning("node.hardware_unreadable", node=node.name, reason=str(error))
        # One byte: none at all would be unknown, and what is unknown limits nothing.
        return Hardware(hostname="", cpu_model="", cpu_count=0, memory_bytes=1)


async def _placed(
    session: AsyncSession, provider_ids: Collection[UUID]
) -> Mapping[UUID, dict[tuple[UUID, UUID], Placed]]:
    statement = (
        select(Placement, Node.provider_id)
        .join(Node, Node.id == Placement.node_id)
        .where(Node.provider_id.in_(provider_ids), Node.revoked_at.is_(None))
        .execution_options(populate_existing=True)
    )
    found: dict[UUID, dict[tuple[UUID, UUID], Placed]] = defaultdict(dict)
    for row, provider_id in await session.execute(statement):
        assert provider_id is not None
        found[provider_id][row.node_id, row.revision_id] = Placed(
            node_id=row.node_id,
            revision_id=row.revision_id,
            desired=row.desired,
            state=row.state,
            state_at=row.state_at,
            replicas_min=row.replicas_min,
            replicas_max=row.replicas_max,
            slots=row.slots,
            idle_s=row.idle_s,
            memory_bytes=row.memory_bytes,
            gpus=row.gpus,
            retry_at=row.retry_at,
            reason=row.reason,
        )
    return found


async def _said(
    session: AsyncSession, provider_ids: Collection[UUID]
) -> Mapping[UUID, dict[tuple[UUID, UUID | None], Misfit]]:
    """Of open offers; what is kept of others is nobody's business any more (`passes.plan_all`)."""
    statement = (
        select(Offer.provider_id, PlacementRejection)
        .join(Offer, Offer.id == PlacementRejection.offer_id)
        .where(
            Offer.provider_id.in_(provider_ids),
            Offer.state == OfferState.OPEN,
            Offer.succeeded_by.is_(None),
        )
    )
    found: dict[UUID, dict[tuple[UUID, UUID | None], Misfit]] = defaultdict(dict)
    for provider_id, row in await session.execute(statement):
        found[provider_id][row.offer_id, row.node_id] = row.misfit
    return found
