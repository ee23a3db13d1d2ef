"""What is fixed about an endpoint: everything that routing needs and that no heartbeat changes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import new_id
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.catalog.sharing import audiences, hosted_by
from raymart_marketplace.catalog.standing import revision_standings
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.effective import OfferTerms, Sold
from raymart_marketplace.supply.live import Standing
from raymart_marketplace.supply.models import (
    Endpoint,
    Node,
    NodeRole,
    NodeState,
    Offer,
    OfferState,
    Pool,
    PoolKind,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.trust import DataPolicy, Trust

DIGESTS_MAX = 1_000
"""Revisions that one node may announce at a time."""
NODES_MAX = 500
"""Nodes that may be asked for at once."""
TRUST_OF_POOLS = {PoolKind.HOUSE: Trust.VERIFIED, PoolKind.PROVIDER: Trust.PROBED}
"""Of the machines in them: what serves has passed the benchmark, and into a house pool verified providers alone come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """The fields of `LiveEndpoint` that the database decides, and what its price follows from."""

    id: UUID
    node_id: UUID
    node_name: str
    provider_id: UUID
    provider_slug: str
    offer_id: UUID
    revision_id: UUID
    revision_digest: str
    model_slug: str
    engine: str
    quantization: str
    region: str
    context_length: int
    sold: Sold
    terms: OfferTerms
    standing: Standing
    aliases: tuple[str, ...]
    audience: frozenset[UUID] | None
    """Organizations that may use the model; None for everybody."""
    trust: Trust
    data_policy: DataPolicy
    capabilities: tuple[str, ...] = ()
    """What the revision's manifest says it can do."""


async def endpoint_facts(
    session: AsyncSession, node_id: UUID, digests: Collection[str]
) -> Sequence[EndpointFacts]:
    """Endpoints of one node, as `facts_of_nodes` has them."""
    return (await facts_of_nodes(session, {node_id: digests}))[node_id]


async def facts_of_nodes(
    session: AsyncSession, announced: Mapping[UUID, Collection[str]]
) -> Mapping[UUID, Sequence[EndpointFacts]]:
    """Endpoints that each node may serve of the revisions that it announced; makes their rows where they are new.

    Left out is what must not be routed to: revisions without an open offer of the node's provider, withdrawn
    revisions, providers that are not active, and nodes that are not ready (`supply.node_life`). Ask again when an offer
    may have changed. However many nodes, it takes as many statements.
    """
    assert len(announced) <= NODES_MAX
    assert all(len(digests) <= DIGESTS_MAX for digests in announced.values())
    digests = {digest for each in announced.values() for digest in each}
    found = await session.execute(_routable(announced, digests))
    rows = [row for row in found if row.digest in announced[row.node_id]]
    endpoint_ids = await _endpoints(session, rows)
    terms = await load_terms(session, {row.offer_id for row in rows})
    private = await audiences(session, {row.model_id for row in rows})
    standings = await revision_standings(session, {row.revision_id for row in rows})
    facts: dict[UUID, list[EndpointFacts]] = {node_id: [] for node_id in announced}
    for row in rows:
        standing = standings[row.revision_id]
        facts[row.node_id].append(
            EndpointFacts(
                id=endpoint_ids[row.node_id, row.revision_id],
                node_id=row.node_id,
                node_name=row.node_name,
                provider_id=row.provider_id,
                provider_slug=row.provider_slug,
                offer_id=row.offer_id,
                revision_id=row.revision_id,
                revision_digest=row.digest,
                model_slug=row.model_slug,
                engine=row.engine,
                quantization=row.quantization,
                region=row.region,
                context_length=row.context_length,
                sold=Sold(
                    model_id=row.model_id,
                    revision_id=row.revision_id,
                    provider_id=row.provider_id,
                    modality=row.modality,
                ),
                terms=terms[row.offer_id],
                standing=standing.standing,
                aliases=standing.aliases,
                audience=private.get(row.model_id),
                trust=TRUST_OF_POOLS[row.pool_kind],
                data_policy=row.data_policy,
                capabilities=tuple(row.capabilities),
            )
        )
    return facts


def _routable(node_ids: Collection[UUID], digests: Collection[str]) -> Select[*tuple[Any, ...]]:
    """The offers that the announced revisions may be routed by.

    Columns and no objects: read every two seconds, those took a good part of an idle process's time.
    """
    return (
        select(
            Node.id.label("node_id"),
            Node.name.label("node_name"),
            Pool.region,
            Pool.kind.label("pool_kind"),
            Provider.id.label("provider_id"),
            Provider.slug.label("provider_slug"),
            Provider.data_policy,
            Offer.id.label("offer_id"),
            ModelRevision.id.label("revision_id"),
            ModelRevision.digest,
            ModelRevision.engine,
            ModelRevision.quantization,
            ModelRevision.context_length,
            ModelRevision.capabilities,
            Model.id.label("model_id"),
            Model.slug.label("model_slug"),
            Model.modality,
        )
        .select_from(Node)
        .join(Provider, Provider.id == Node.provider_id)
        .join(Pool, Pool.id == Node.pool_id)
        .join(Offer, Offer.provider_id == Provider.id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Node.id.in_(node_ids),
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Node.state == NodeState.READY,
            Provider.state == ProviderState.ACTIVE,
            Offer.state == OfferState.OPEN,
            ModelRevision.digest.in_(digests),
            ModelRevision.state.in_(SERVED),
            hosted_by(Provider.organization_id),
        )
        .order_by(Node.id, ModelRevision.id)
    )


async def _endpoints(session: AsyncSession, rows: Sequence[Row[Any]]) -> dict[tuple[UUID, UUID], UUID]:
    """Ids of the endpoints by node and revision, of rows of `_routable`; makes and corrects theirs."""
    if not rows:
        return {}
    wanted = {(row.node_id, row.revision_id): row.offer_id for row in rows}
    known = await session.execute(
        select(Endpoint.node_id, Endpoint.revision_id, Endpoint.id, Endpoint.offer_id).where(
            Endpoint.node_id.in_({node_id for node_id, _ in wanted}),
            Endpoint.revision_id.in_({revision_id for _, revision_id in wanted}),
        )
    )
    found = {(row.node_id, row.revision_id): (row.id, row.offer_id) for row in known}
    # An unchanged row is not written again at every announcement.
    missing = {
        key: offer_id for key, offer_id in wanted.items() if found.get(key, (None, None))[1] != offer_id
    }
    if missing:
        made = insert(Endpoint).values(
            [
                {"id": new_id(), "node_id": node_id, "revision_id": revision_id, "offer_id": offer_id}
                for (node_id, revision_id), offer_id in sorted(missing.items())
            ]
        )
        written = await session.execute(
            made.on_conflict_do_update(
                index_elements=[Endpoint.node_id, Endpoint.revision_id],
                set_={"offer_id": made.excluded.offer_id},
            ).returning(Endpoint.node_id, Endpoint.revision_id, Endpoint.id, Endpoint.offer_id)
        )
        found |= {(row.node_id, row.revision_id): (row.id, row.offer_id) for row in written}
    return {key: found[key][0] for key in wanted}
