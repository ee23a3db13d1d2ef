"""The catalog."""

import strawberry
from sqlalchemy import select

from raymart_graphql.context import Info
from raymart_graphql.keyset import page_of
from raymart_graphql.loaders import MODELS
from raymart_graphql.relay import Connection, Page, PageArguments
from raymart_graphql.schema.catalog.types import Model
from raymart_marketplace.catalog import models


@strawberry.type
class CatalogQuery:
    """Root fields of the domain."""

    @strawberry.field(description="Every model, by slug.", extensions=[PageArguments()])
    async def models(self, info: Info, page: Page) -> Connection[Model]:
        """The catalog."""
        async with info.context.reading.session() as session:
            return await page_of(session, MODELS, page)

    @strawberry.field(description="The model with this slug; null when there is none.")
    async def model(self, info: Info, slug: str) -> Model | None:
        """By slug."""
        async with info.context.reading.session() as session:
            row = await session.scalar(select(models.Model).where(models.Model.slug == slug))
        return Model.of(row) if row is not None else None
