"""Every place where an open offer is or could be served: one statement for the offers and machines, two for their asks."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, join, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.catalog.sharing import seen_by
from raymart_marketplace.catalog.standing import RevisionStanding, revision_standings
from raymart_marketplace.db.tenancy import Confinement
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.effective import OfferPrice, PriceBook, Sold, price_offer
from raymart_marketplace.routing.search import Gpu, Place
from raymart_marketplace.supply.endpoints import TRUST_OF_POOLS
from raymart_marketplace.supply.live import LiveEndpoint
from raymart_marketplace.supply.models import (
    Endpoint,
    Node,
    NodeState,
    Offer,
    OfferState,
    Pool,
    Provider,
    ProviderState,
)

PLACES_MAX = 2_000
"""Places that one search looks at; anybody may ask, so it is bounded. To filter and rank as many takes 20 ms."""
_NO_PRICES = Prices()


async def load_places(
    session: AsyncSession,
    live: Iterable[LiveEndpoint],
    book: PriceBook,
    at: datetime,
    *,
    model_slug: str | None = None,
    viewer: Confinement | None = None,
) -> Sequence[Place]:
    """The places of `model_slug`, or of every model; `live` says which of them serve at this moment.

    Raises: InvalidRequest when there are more than `PLACES_MAX`.
    """
    rows = (await session.execute(_offered(model_slug).where(seen_by(viewer)))).all()
    if len(rows) > PLACES_MAX:
        hint = "name a model" if model_slug is None else "ask for its `liveEndpoints` instead"
        raise InvalidRequest(f"more than {PLACES_MAX} places to look at; {hint}", param="model")
    terms = await load_terms(session, {row.Offer.id for row in rows})
    standings = await revision_standings(session, {row.Offer.revision_id for row in rows})
    by_id = {endpoint.id: endpoint for endpoint in live}
    return [
        _place(
            row,
            price_offer(terms[row.Offer.id], _sold(row), book, at),
            standings[row.Offer.revision_id],
            by_id.get(row.endpoint_id),
        )
        for row in rows
    ]


def _offered(model_slug: str | None) -> Select[*tuple[Any, ...]]:
    """What `supply.endpoints` may route to, and the machines that have ever announced it."""
    machine = join(
        Endpoint,
        Node,
        and_(
            Node.id == Endpoint.node_id,
            Node.revoked_at.is_(None),
            # One that is missed for now is shown, with no live endpoint.
            Node.state.in_((NodeState.READY, NodeState.OFFLINE)),
        ),
    )
    statement = (
        select(
            Offer,
            ModelRevision.model_id,
            ModelRevision.digest,
            ModelRevision.quantization,
            ModelRevision.context_length,
            Model.slug.label("model_slug"),
            Model.modality,
            Provider.slug.label("provider_slug"),
            Endpoint.id.label("endpoint_id"),
            Node.hardware["gpus"].label("gpus"),
            Pool.region,
            Pool.kind.label("pool_kind"),
            Provider.data_policy,
        )
        .join(Provider, Provider.id == Offer.provider_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .outerjoin(machine, Endpoint.offer_id == Offer.id)
        .outerjoin(Pool, Pool.id == Node.pool_id)
        .where(
            Offer.state == OfferState.OPEN,
            Provider.state == ProviderState.ACTIVE,
            ModelRevision.state.in_(SERVED),
        )
        .order_by(Offer.id, Endpoint.id)
        .limit(PLACES_MAX + 1)
    )
    return statement if model_slug is None else statement.where(Model.slug == model_slug)


def _sold(row: Any) -> Sold:  # noqa: ANN401 - a row of `_offered`, whose labels its type does not tell
    return Sold(
        model_id=row.model_id,
        revision_id=row.Offer.revision_id,
        provider_id=row.Offer.provider_id,
        modality=row.modality,
    )


def _place(
    row: Any,  # noqa: ANN401 - as above
    price: OfferPrice,
    standing: RevisionStanding,
    endpoint: LiveEndpoint | None,
) -> Place:
    offer: Offer = row.Offer
    # What is live is sold at the price that this process's routing knows.
    prices = price.prices if endpoint is None else endpoint.prices
    return Place(
        id=row.endpoint_id or offer.id,
        offer_id=offer.id,
        endpoint_id=row.endpoint_id,
        provider_id=offer.provider_id,
        provider_slug=row.provider_slug,
        revision_id=offer.revision_id,
        revision_digest=row.digest,
        model_slug=row.model_slug,
        quantization=row.quantization,
        context_length=row.context_length,
        region=row.region,
        gpus=tuple(
            Gpu(model=str(gpu.get("model", "")), memory_bytes=int(gpu.get("memory_bytes", 0)))
            for gpu in row.gpus or ()
        ),
        prices=prices or _NO_PRICES,
        unsellable=price.reason if prices is None else "",
        live=endpoint,
        standing=standing.standing,
        aliases=standing.aliases,
        trust=None if row.pool_kind is None else TRUST_OF_POOLS[row.pool_kind],
        data_policy=row.data_policy,
    )
