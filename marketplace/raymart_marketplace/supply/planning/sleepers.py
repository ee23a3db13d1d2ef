"""Placements that may be woken, read from the rows: for who sends demand, and for requests that could wait for one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import SERVED, Modality, Model, ModelRevision
from raymart_marketplace.catalog.sharing import audiences, hosted_by
from raymart_marketplace.catalog.standing import revision_standings
from raymart_marketplace.pricing.book import database_now, load_book, load_terms
from raymart_marketplace.pricing.effective import Sold, price_offer
from raymart_marketplace.supply.endpoints import TRUST_OF_POOLS
from raymart_marketplace.supply.live import Standing
from raymart_marketplace.supply.models import (
    Node,
    NodeState,
    Offer,
    OfferState,
    Placement,
    PlacementState,
    Pool,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.pace import UNKNOWN_PACE, Pace
from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.loading import machine_of
from raymart_marketplace.supply.planning.waking import NodeLoad, Sleeper
from raymart_marketplace.supply.trust import DataPolicy, Trust

SLEEPERS_MAX = 1_000
_OFFER_OF_PLACEMENT = and_(Offer.provider_id == Node.provider_id, Offer.revision_id == Placement.revision_id)
_MAY_WAKE: tuple[ColumnElement[bool], ...] = (
    Placement.desired.is_(True),
    Node.revoked_at.is_(None),
    Node.state == NodeState.READY,
    Provider.state == ProviderState.ACTIVE,
    Offer.state == OfferState.OPEN,
    ModelRevision.state.in_(SERVED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepingPlace:
    """An offer of which a placement could be woken. Implements `routing.route.Offered`."""

    id: UUID
    """The offer's."""
    provider_slug: str
    model_slug: str
    modality: Modality
    revision_digest: str
    context_length: int
    region: str | None
    trust: Trust | None
    data_policy: DataPolicy
    quantization: str
    prices: Prices
    standing: Standing
    aliases: tuple[str, ...]
    audience: frozenset[UUID] | None
    cold_start_ms: int | None
    """How long the last start of one of its replicas took; None before the first."""
    capabilities: tuple[str, ...] = ()
    # Of what sleeps nobody knows anything bad.
    capacity: int = 1
    running: int = 0
    crowded: bool = False
    quarantined: bool = False
    rests_until: float = 0.0
    first_token_ms: float | None = None
    tokens_per_s: float | None = None
    pace: Pace = UNKNOWN_PACE
    error_rate: float = 0.0

    def is_for(self, organization_id: UUID | None) -> bool:
        """Whether the organization may use the model."""
        return self.audience is None or organization_id in self.audience


async def sleeping_places(session: AsyncSession, model_slug: str) -> Sequence[SleepingPlace]:
    """Offers of the model that have a placement which may sleep, on a machine that is there; those that can be sold."""
    statement = (
        select(Offer, ModelRevision, Model, Provider, Pool, Placement.cold_start_ms)
        .select_from(Placement)
        .join(Node, Node.id == Placement.node_id)
        .join(Pool, Pool.id == Node.pool_id)
        .join(Provider, Provider.id == Node.provider_id)
        .join(Offer, _OFFER_OF_PLACEMENT)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            *_MAY_WAKE,
            Placement.replicas_min == 0,
            Model.slug == model_slug,
            hosted_by(Provider.organization_id),
        )
        .order_by(Offer.id, Placement.id)
        .limit(SLEEPERS_MAX)
    )
    rows = (await session.execute(statement)).all()
    if not rows:
        return ()
    at = await database_now(session)
    book = await load_book(session, fee_basis_points=0)
    terms = await load_terms(session, {offer.id for offer, *_ in rows})
    standings = await revision_standings(session, {revision.id for _, revision, *_ in rows})
    private = await audiences(session, {model.id for _, _, model, *_ in rows})
    found: dict[UUID, SleepingPlace] = {}
    for offer, revision, model, provider, pool, cold_start_ms in rows:
        sold = Sold(
            model_id=model.id, revision_id=revision.id, provider_id=provider.id, modality=model.modality
        )
        prices = price_offer(terms[offer.id], sold, book, at).prices
        if prices is None or offer.id in found:
            continue
        found[offer.id] = SleepingPlace(
            id=offer.id,
            provider_slug=provider.slug,
            model_slug=model.slug,
            modality=model.modality,
            revision_digest=revision.digest,
            context_length=revision.context_length,
            region=pool.region,
            trust=TRUST_OF_POOLS[pool.kind],
            data_policy=provider.data_policy,
            quantization=revision.quantization,
            prices=prices,
            standing=standings[revision.id].standing,
            aliases=standings[revision.id].aliases,
            audience=private.get(model.id),
            cold_start_ms=cold_start_ms,
            capabilities=tuple(revision.capabilities),
        )
    return tuple(found.values())


async def load_sleepers(
    session: AsyncSession, demand: Demand
) -> tuple[Sequence[Sleeper], Mapping[UUID, NodeLoad]]:
    """The placements of what is waited for, and what their machines have left. Two statements."""
    offers = [UUID(offer_hex) for offer_hex in demand.waiting]
    statement = (
        select(Placement, Node.pool_id, Offer.id, ModelRevision.digest)
        .select_from(Placement)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .join(Offer, _OFFER_OF_PLACEMENT)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .where(
            *_MAY_WAKE,
            Offer.id.in_(offers) | (ModelRevision.digest.in_(demand.queued) & (Placement.replicas_min == 0)),
        )
        .order_by(Placement.id)
        .limit(SLEEPERS_MAX)
    )
    sleepers = [
        Sleeper(
            placement_id=row.id,
            pool_id=pool_id,
            node_id=row.node_id,
            offer_id=offer_id,
            revision_digest=digest,
            replicas_min=row.replicas_min,
            replicas_max=row.replicas_max,
            running=row.replicas_running,
            failed=row.state is PlacementState.FAILED,
            slots=row.slots,
            memory_bytes=row.memory_bytes,
            gpus=row.gpus,
        )
        for row, pool_id, offer_id, digest in await session.execute(statement)
    ]
    return sleepers, await _loads(session, {sleeper.node_id for sleeper in sleepers})


async def _loads(session: AsyncSession, node_ids: set[UUID]) -> Mapping[UUID, NodeLoad]:
    """What is awake on the machines: what is always loaded, and what runs."""
    statement = (
        select(Node, Placement)
        .outerjoin(Placement, and_(Placement.node_id == Node.id, Placement.desired.is_(True)))
        .where(Node.id.in_(node_ids))
    )
    nodes: dict[UUID, Node] = {}
    memory: dict[UUID, int] = defaultdict(int)
    gpus: dict[UUID, int] = defaultdict(int)
    for node, placement in await session.execute(statement):
        nodes[node.id] = node
        if placement is not None:
            replicas = max(placement.replicas_min, placement.replicas_running)
            memory[node.id] += placement.memory_bytes * replicas
            gpus[node.id] += placement.gpus * replicas
    machines = {node_id: machine_of(node, seen_at=None) for node_id, node in nodes.items()}
    return {
        node_id: NodeLoad(
            memory_bytes=machine.memory_bytes,
            gpus=len(machine.gpu_memory_bytes),
            memory_taken_bytes=memory[node_id],
            gpus_taken=gpus[node_id],
        )
        for node_id, machine in machines.items()
    }
