"""Loaders of providers, their machines and their offers."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.loading import LoaderPart, Pages
from raymart_graphql.reading import Reading
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.supply.placing import ModelPlacement, PlacementRejection
from raymart_graphql.schema.supply.types import Offer, Placement, Pool, PoolDrift, Provider, ProviderNode
from raymart_marketplace.supply import models as supply
from raymart_marketplace.supply.drift import pool_drift
from raymart_marketplace.supply.models import OfferState, PoolKind
from raymart_marketplace.supply.planning import tables as planning


class SupplyLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.provider = self._known(supply.Provider, Provider.of)
        self.provider_of_organization = self._by(
            supply.Provider, supply.Provider.organization_id, Provider.of
        )
        self.provider_by_slug = self._by(supply.Provider, supply.Provider.slug, Provider.of)
        self.pool = self._known(supply.Pool, Pool.of)
        self.node = self._known(supply.Node, ProviderNode.of)
        self.placement = self._known(supply.Placement, Placement.of)
        self.offer = self._known(supply.Offer, Offer.of)
        self.rejections_of_offer = self._pages(REJECTIONS, planning.PlacementRejection.offer_id)
        self.standing_of_model = self._by(
            planning.ModelPlacement, planning.ModelPlacement.model_id, ModelPlacement.of
        )
        self.offers_of_provider = self._pages(OFFERS, supply.Offer.provider_id)
        self.nodes_of_provider = self._pages(NODES, supply.Node.provider_id)
        self.placements_of_node = self._pages(PLACEMENTS, supply.Placement.node_id)
        self.drift_of_pool: DataLoader[UUID, list[PoolDrift]] = DataLoader(load_fn=self._drift)
        self.pools_of_provider: Pages[Pool] = DataLoader(load_fn=self._pools)

    async def _drift(self, keys: list[UUID]) -> list[list[PoolDrift]]:
        """Four reads a pool; a page has few."""
        async with self._reading.session() as session:
            return [[PoolDrift.of(found) for found in await pool_drift(session, key)] for key in keys]

    async def _pools(self, keys: list[tuple[UUID, Page]]) -> list[Connection[Pool]]:
        """A provider sees the house pools and its own; an operation asks this of one provider or two."""
        async with self._reading.session() as session:
            return [await page_of(session, _pools_for(provider_id), page) for provider_id, page in keys]


OFFERS = Listing(
    name="offers",
    entity=supply.Offer,
    key=supply.Offer.id,
    show=Offer.of,
    where=(supply.Offer.state != OfferState.CLOSED,),
)
REJECTIONS = Listing(
    name="rejections",
    entity=planning.PlacementRejection,
    key=planning.PlacementRejection.id,
    show=PlacementRejection.of,
)
NODES = Listing(name="nodes", entity=supply.Node, key=supply.Node.id, show=ProviderNode.of)
PLACEMENTS = Listing(name="placements", entity=supply.Placement, key=supply.Placement.id, show=Placement.of)


def _pools_for(provider_id: UUID) -> Listing[supply.Pool, Pool]:
    joinable = (supply.Pool.kind == PoolKind.HOUSE) | (supply.Pool.provider_id == provider_id)
    return Listing(name="pools", entity=supply.Pool, key=supply.Pool.id, show=Pool.of, where=(joinable,))
