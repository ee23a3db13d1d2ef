"""Rate cards, caps, fees and windows, as the API shows them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import Money
from raymart_graphql.schema.pricing.enums import DayOfWeek, RateCardState, Unit
from raymart_graphql.schema.pricing.units import UnitPrice, unit_prices
from raymart_marketplace.pricing import models
from raymart_marketplace.pricing.effective import Window

if TYPE_CHECKING:
    from raymart_graphql.schema.catalog.types import Model, ModelRevision
    from raymart_graphql.schema.supply.types import Provider

LazyModel = Annotated["Model", strawberry.lazy("raymart_graphql.schema.catalog.types")]
LazyRevision = Annotated["ModelRevision", strawberry.lazy("raymart_graphql.schema.catalog.types")]
LazyProvider = Annotated["Provider", strawberry.lazy("raymart_graphql.schema.supply.types")]


@strawberry.type(
    description="A version of a model's prices: what its offers cost where their provider asks nothing."
)
class RateCard:
    """Public. It never changes once it is published; a successor ends it."""

    uuid: strawberry.Private[UUID]
    model_uuid: strawberry.Private[UUID]
    revision_uuid: strawberry.Private[UUID | None]
    version: int = strawberry.field(description="1, 2, 3 ... of the same model, or of the same revision.")
    state: RateCardState = strawberry.field(description="Where it stands.")
    effective_from: datetime = strawberry.field(description="When it begins to bind.")
    effective_to: datetime | None = strawberry.field(description="When it ends; null while nothing ends it.")

    @classmethod
    def of(cls, row: models.RateCard) -> "RateCard":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            model_uuid=row.model_id,
            revision_uuid=row.revision_id,
            version=row.version,
            state=row.state,
            effective_from=row.effective_from,
            effective_to=row.effective_to,
        )

    @resolved("What it costs, by unit.")
    async def prices(self, info: Info) -> list[UnitPrice]:
        """Its lines."""
        return unit_prices(await info.context.loaders.pricing.prices_of_card.load(self.uuid))

    @resolved("The model it prices.")
    async def model(self, info: Info) -> LazyModel:
        """Its model."""
        return await info.context.loaders.catalog.model.load_known(self.model_uuid)

    @resolved("The only revision it prices; null when it prices every one of the model.")
    async def revision(self, info: Info) -> LazyRevision | None:
        """Its revision."""
        return (
            await info.context.loaders.catalog.revision.load(self.revision_uuid)
            if self.revision_uuid
            else None
        )


@strawberry.type(description="The most that may be asked for a unit.")
class PriceCap:
    """For administrators."""

    model_uuid: strawberry.Private[UUID | None]
    unit: Unit = strawberry.field(description="What is capped.")
    max: Money = strawberry.field(description="The most that one of it may cost.")
    effective_from: datetime = strawberry.field(description="When it begins to bind.")
    effective_to: datetime | None = strawberry.field(description="When it ends; null while nothing ends it.")
    reason: str = strawberry.field(description="Why it was set.")

    @classmethod
    def of(cls, row: models.PriceCap) -> "PriceCap":
        """`row` as the API shows it."""
        return cls(
            model_uuid=row.model_id,
            unit=row.unit,
            max=Money.of_nano_usd(row.max_nano_usd),
            effective_from=row.effective_from,
            effective_to=row.effective_to,
            reason=row.reason,
        )

    @resolved("The only model it binds; null when it binds all.")
    async def model(self, info: Info) -> LazyModel | None:
        """Its model."""
        return await info.context.loaders.catalog.model.load(self.model_uuid) if self.model_uuid else None


@strawberry.type(description="The platform's share of what customers pay.")
class FeeSchedule:
    """For administrators. The most specific one binds: of provider and model, of the provider, of the model, of all."""

    model_uuid: strawberry.Private[UUID | None]
    provider_uuid: strawberry.Private[UUID | None]
    version: int = strawberry.field(description="Counts over all schedules.")
    basis_points: int = strawberry.field(description="The share, in hundredths of a percent.")
    effective_from: datetime = strawberry.field(description="When it begins to bind.")
    effective_to: datetime | None = strawberry.field(description="When it ends; null while nothing ends it.")
    reason: str = strawberry.field(description="Why it was set.")

    @classmethod
    def of(cls, row: models.FeeSchedule) -> "FeeSchedule":
        """`row` as the API shows it."""
        return cls(
            model_uuid=row.model_id,
            provider_uuid=row.provider_id,
            version=row.version,
            basis_points=row.basis_points,
            effective_from=row.effective_from,
            effective_to=row.effective_to,
            reason=row.reason,
        )

    @resolved("The only model it is for; null when it is for all.")
    async def model(self, info: Info) -> LazyModel | None:
        """Its model."""
        return await info.context.loaders.catalog.model.load(self.model_uuid) if self.model_uuid else None

    @resolved("The only provider it is for; null when it is for all.")
    async def provider(self, info: Info) -> LazyProvider | None:
        """Its provider."""
        return (
            await info.context.loaders.supply.provider.load(self.provider_uuid)
            if self.provider_uuid
            else None
        )


@strawberry.type(description="Hours of the week, in UTC, in which an offer asks other prices.")
class OfferWindow:
    """Either a share of the base price, or asks of its own."""

    days: list[DayOfWeek] = strawberry.field(description="The days on which it begins.")
    starts_minute: int = strawberry.field(description="Minutes after midnight UTC, inclusive.")
    ends_minute: int = strawberry.field(
        description="Minutes after midnight UTC, exclusive; not after the start for a window over midnight."
    )
    basis_points: int | None = strawberry.field(
        description="Of the base price, for every unit: 5,000 is half; null when it asks prices of its own."
    )
    asks: list[UnitPrice] = strawberry.field(description="What it asks; other units keep the base price.")

    @classmethod
    def of(cls, window: Window) -> "OfferWindow":
        """`window` as the API shows it."""
        hours = window.hours
        return cls(
            days=[DayOfWeek(day) for day in sorted(hours.days)],
            starts_minute=hours.starts_minute,
            ends_minute=hours.ends_minute,
            basis_points=window.basis_points,
            asks=unit_prices(window.asks),
        )


@strawberry.type(description="What an offer costs at this moment.")
class OfferPrice:
    """By windows, rate cards, floors and caps together."""

    prices: list[UnitPrice] = strawberry.field(
        description="By unit, without what is free; empty when it cannot be sold."
    )
    sellable: bool = strawberry.field(description="Whether requests can use it at this price.")
    until: datetime = strawberry.field(
        description="Until when this holds if nobody changes anything; a day at most."
    )
