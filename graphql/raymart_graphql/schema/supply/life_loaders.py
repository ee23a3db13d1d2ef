"""Loaders of what became of providers and their machines."""

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.supply.join_tokens import JoinToken
from raymart_graphql.schema.supply.life_types import (
    MaintenanceWindow,
    NodeStanding,
    ProviderApplication,
    ProviderEvent,
    ProviderNodeEvent,
)
from raymart_marketplace.supply import life_models as rows
from raymart_marketplace.supply import models as supply
from raymart_marketplace.supply.join_tokens import OPEN

NODE_EVENTS = Listing(
    name="node_events",
    entity=rows.NodeEvent,
    key=rows.NodeEvent.id,
    show=ProviderNodeEvent.of,
    newest_first=True,
)
PROVIDER_EVENTS = Listing(
    name="provider_events",
    entity=rows.ProviderEvent,
    key=rows.ProviderEvent.id,
    show=ProviderEvent.of,
    newest_first=True,
)
WINDOWS = Listing(
    name="maintenance_windows",
    entity=rows.MaintenanceWindow,
    key=rows.MaintenanceWindow.id,
    show=MaintenanceWindow.of,
    newest_first=True,
)
TOKENS = Listing(
    name="join_tokens",
    entity=supply.JoinToken,
    key=supply.JoinToken.id,
    show=JoinToken.of,
    newest_first=True,
    where=OPEN,
)


class SupplyLifeLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.application_of_provider = self._known(supply.Provider, ProviderApplication.of)
        self.standing_of_node = self._known(supply.Node, NodeStanding.of)
        self.history_of_provider = self._pages(PROVIDER_EVENTS, rows.ProviderEvent.provider_id)
        self.history_of_node = self._pages(NODE_EVENTS, rows.NodeEvent.node_id)
        self.tokens_of_provider = self._pages(TOKENS, supply.JoinToken.provider_id)
        self.windows_of_node = self._pages(WINDOWS, rows.MaintenanceWindow.node_id)
