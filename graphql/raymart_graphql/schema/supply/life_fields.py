"""The fields of `Provider` and `ProviderNode` about their lives. For members; the rules are in `rules/supply.py`."""

from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.supply.join_tokens import JoinToken
from raymart_graphql.schema.supply.life_types import (
    MaintenanceWindow,
    NodeStanding,
    ProviderApplication,
    ProviderEvent,
    ProviderNodeEvent,
)


@strawberry.type
class ProviderLife:
    """Part of `Provider`."""

    uuid: strawberry.Private[UUID]

    @resolved("What it applied with, and how it is reached. For its members.")
    async def application(self, info: Info) -> ProviderApplication:
        """Of the provider's row."""
        return await info.context.loaders.supply_life.application_of_provider.load_known(self.uuid)

    @listed("What happened to it, newest first. For its members.")
    async def history(self, info: Info, page: Page) -> Connection[ProviderEvent]:
        """Events by id."""
        return await info.context.loaders.supply_life.history_of_provider.load((self.uuid, page))

    @listed("Join tokens that a machine may still use, newest first. For its members.")
    async def join_tokens(self, info: Info, page: Page) -> Connection[JoinToken]:
        """Tokens by id."""
        return await info.context.loaders.supply_life.tokens_of_provider.load((self.uuid, page))


@strawberry.type
class NodeLife:
    """Part of `ProviderNode`."""

    uuid: strawberry.Private[UUID]

    @resolved("Its link, its clock, and until when what runs on it may go on.")
    async def standing(self, info: Info) -> NodeStanding:
        """Of the machine's row."""
        return await info.context.loaders.supply_life.standing_of_node.load_known(self.uuid)

    @listed("What happened to it, newest first.")
    async def history(self, info: Info, page: Page) -> Connection[ProviderNodeEvent]:
        """Events by id."""
        return await info.context.loaders.supply_life.history_of_node.load((self.uuid, page))

    @listed("Its maintenance windows, the one planned last first.")
    async def maintenance_windows(self, info: Info, page: Page) -> Connection[MaintenanceWindow]:
        """Windows by id, those that are over too."""
        return await info.context.loaders.supply_life.windows_of_node.load((self.uuid, page))
