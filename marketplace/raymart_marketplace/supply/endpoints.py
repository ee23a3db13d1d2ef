"""What is fixed about an endpoint: everything that routing needs and that no heartbeat changes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import new_id
from raymart_marketplace.catalog.models import SERVED, Modality, Model, ModelRevision
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
    Provider,
    ProviderState,
)

DIGESTS_MAX = 1_000
"""Revisions that one node may announce at a time."""


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


async def endpoint_facts(
    session: AsyncSession, node_id: UUID, digests: Collection[str]
) -> Sequence[EndpointFacts]:
    """Endpoints that the node may serve of the revisions it announced; makes their rows where they are new.

    Left out is what must not be routed to: revisions without an open offer of the node's provider, withdrawn
    revisions, providers that are not active, draining and revoked nodes. Ask again when an offer may have changed.
    """
    assert len(digests) <= DIGESTS_MAX
    rows = (await session.execute(_routable(node_id, digests))).all()
    endpoint_ids = await _endpoints(
        session, node_id, {revision.id: offer.id for _, _, _, offer, revision, _, _ in rows}
    )
    terms = await load_terms(session, [offer.id for _, _, _, offer, _, _, _ in rows])
    private = await audiences(session, {revision.model_id for _, _, _, _, revision, _, _ in rows})
    standings = await revision_standings(session, [revision.id for _, _, _, _, revision, _, _ in rows])
    return [
        EndpointFacts(
            id=endpoint_ids[revision.id],
            node_id=node_id,
            node_name=node_name,
            provider_id=provider.id,
            provider_slug=provider.slug,
            offer_id=offer.id,
            revision_id=revision.id,
            revision_digest=revision.digest,
            model_slug=model_slug,
            engine=revision.engine,
            quantization=revision.quantization,
            region=region,
            context_length=revision.context_length,
            sold=Sold(
                model_id=revision.model_id,
                revision_id=revision.id,
                provider_id=provider.id,
                modality=modality,
            ),
            terms=terms[offer.id],
            standing=standings[revision.id].standing,
            aliases=standings[revision.id].aliases,
            audience=private.get(revision.model_id),
        )
        for node_name, region, provider, offer, revision, model_slug, modality in rows
    ]


def _routable(
    node_id: UUID, digests: Collection[str]
) -> Select[str, str, Provider, Offer, ModelRevision, str, Modality]:
    """The offers that the announced revisions may be routed by."""
    return (
        select(Node.name, Pool.region, Provider, Offer, ModelRevision, Model.slug, Model.modality)
        .select_from(Node)
        .join(Provider, Provider.id == Node.provider_id)
        .join(Pool, Pool.id == Node.pool_id)
        .join(Offer, Offer.provider_id == Provider.id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Node.id == node_id,
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Node.state != NodeState.DRAINING,
            Provider.state == ProviderState.ACTIVE,
            Offer.state == OfferState.OPEN,
            ModelRevision.digest.in_(digests),
            ModelRevision.state.in_(SERVED),
            hosted_by(Provider.organization_id),
        )
        .order_by(ModelRevision.id)
    )


async def _endpoints(session: AsyncSession, node_id: UUID, offers: dict[UUID, UUID]) -> dict[UUID, UUID]:
    """Ids of the node's endpoints by revision, given the offer of each revision; makes and corrects rows."""
    if not offers:
        return {}
    rows = [
        {"id": new_id(), "node_id": node_id, "revision_id": revision_id, "offer_id": offer_id}
        for revision_id, offer_id in offers.items()
    ]
    made = insert(Endpoint).values(rows)
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[Endpoint.node_id, Endpoint.revision_id],
            set_={"offer_id": made.excluded.offer_id},
            # An unchanged row is not written again at every announcement.
            where=Endpoint.offer_id != made.excluded.offer_id,
        )
    )
    found = await session.execute(
        select(Endpoint.revision_id, Endpoint.id).where(
            Endpoint.node_id == node_id, Endpoint.revision_id.in_(offers)
        )
    )
    return {revision_id: endpoint_id for revision_id, endpoint_id in found}  # noqa: C416  (rows, not tuples)
