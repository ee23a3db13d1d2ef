"""Providers by id."""

from typing import Annotated

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page, parse_global_id
from raymart_graphql.schema.supply.types import Pool, Provider
from raymart_marketplace.supply import models as supply

POOLS = Listing(name="pools", entity=supply.Pool, key=supply.Pool.id, show=Pool.of)


@strawberry.type
class SupplyQuery:
    """Root fields of the domain."""

    @listed("Every pool, oldest first. For the platform's people.")
    async def pools(self, info: Info, page: Page) -> Connection[Pool]:
        """Pools by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, POOLS, page)

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
