"""The catalog."""

from typing import Annotated

import strawberry
from sqlalchemy import select

from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.catalog.loaders import MODELS
from raymart_graphql.schema.catalog.types import Model
from raymart_marketplace.catalog import models


@strawberry.type
class CatalogQuery:
    """Root fields of the domain."""

    @listed("Every model, by slug.")
    async def models(self, info: Info, page: Page) -> Connection[Model]:
        """The catalog."""
        async with info.context.reading.session() as session:
            return await page_of(session, MODELS, page)

    @resolved("The model with this slug; null when there is none.")
    async def model(
        self,
        info: Info,
        slug: Annotated[str, strawberry.argument(description="Such as 'raymart/demo-chat'.")],
    ) -> Model | None:
        """By slug."""
        async with info.context.reading.session() as session:
            row = await session.scalar(select(models.Model).where(models.Model.slug == slug))
        return Model.of(row) if row is not None else None
