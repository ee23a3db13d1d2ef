"""Providers by id."""

from typing import Annotated

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.supply.types import Provider


@strawberry.type
class SupplyQuery:
    """Root fields of the domain."""

    @resolved("The provider with this id; null when there is none.")
    async def provider(
        self,
        info: Info,
        item_id: Annotated[strawberry.ID, strawberry.argument(name="id", description="Global id.")],
    ) -> Provider | None:
        """Public fields for all, machines and earnings for its members."""
        return await info.context.loaders.supply.provider.load(
            parse_global_id(Prefix.PROVIDER, item_id, field="id")
        )
