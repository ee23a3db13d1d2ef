"""Sums of usage: by day, by hour, by month. Read from the rollups, whose size does not grow with the requests."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.rollups import (
    Dimension,
    Scope,
    Summary,
    Totals,
    UsageSum,
    usage_by_day,
    usage_by_hour,
    usage_summary,
)
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.catalog.types import Model
from raymart_graphql.schema.identity.types import ApiKey, Project
from raymart_graphql.schema.supply.types import Provider

SUMS_MAX = 400
"""Of one field: a year of days, or a month by a dozen members. Each costs the event loop about 0.2 ms."""


@strawberry.type(description="Sums over the requests that were billed.")
class UsageTotals:
    """Quantities by unit, and money."""

    requests: BigInt = strawberry.field(description="Requests that were billed.")
    tokens_prompt: BigInt = strawberry.field(description="Tokens of prompts, cached ones included.")
    tokens_completion: BigInt = strawberry.field(description="Generated tokens that were delivered.")
    tokens_cached: BigInt = strawberry.field(description="Those of the prompts that were billed as cached.")
    image_pixel_steps: BigInt = strawberry.field(
        description="Pixels times steps of images; a million are a megapixel-step."
    )
    gpu_ms: BigInt = strawberry.field(description="Milliseconds of GPU that were billed as such.")
    requests_priced: BigInt = strawberry.field(description="Requests whose offer has a price per request.")
    amount: Money = strawberry.field(description="What customers pay.")
    provider_amount: Money = strawberry.field(description="The providers' part of it.")
    fee_amount: Money = strawberry.field(description="The marketplace's part of it.")

    @classmethod
    def of(cls, totals: Totals) -> "UsageTotals":
        """`totals` as the API shows them."""
        return cls(
            requests=BigInt(totals.requests),
            tokens_prompt=BigInt(totals.tokens_prompt),
            tokens_completion=BigInt(totals.tokens_completion),
            tokens_cached=BigInt(totals.tokens_cached),
            image_pixel_steps=BigInt(totals.image_pixel_steps),
            gpu_ms=BigInt(totals.gpu_ms),
            requests_priced=BigInt(totals.requests_priced),
            amount=Money.of_nano_usd(totals.customer_nano_usd),
            provider_amount=Money.of_nano_usd(totals.provider_nano_usd),
            fee_amount=Money.of_nano_usd(totals.fee_nano_usd),
        )


@strawberry.type(
    description="Usage of an hour, a day or a month; where asked for, of one project, key, model or provider."
)
class UsageBucket:
    """One sum."""

    dimension: strawberry.Private[Dimension | None]
    member: strawberry.Private[UUID | None]
    starts_at: datetime = strawberry.field(description="The first moment of the hour, day or month, in UTC.")
    totals: UsageTotals = strawberry.field(description="What was used.")

    @classmethod
    def of(cls, row: UsageSum, dimension: Dimension | None) -> "UsageBucket":
        """`row` as the API shows it."""
        return cls(
            dimension=dimension,
            member=row.member_id,
            starts_at=row.starts_at,
            totals=UsageTotals.of(row.totals),
        )

    @resolved("The project; null unless the sums are by project.")
    async def project(self, info: Info) -> Project | None:
        """The member, if it is a project."""
        member = self._member(Dimension.PROJECT)
        return None if member is None else await info.context.loaders.identity.project.load(member)

    @resolved(
        "The key; null unless the sums are by key, and for what people asked with a token of their own."
    )
    async def api_key(self, info: Info) -> ApiKey | None:
        """The member, if it is a key."""
        member = self._member(Dimension.API_KEY)
        return None if member is None else await info.context.loaders.identity.api_key.load(member)

    @resolved("The model; null unless the sums are by model.")
    async def model(self, info: Info) -> Model | None:
        """The member, if it is a model."""
        member = self._member(Dimension.MODEL)
        return None if member is None else await info.context.loaders.catalog.model.load(member)

    @resolved("The provider; null unless the sums are by provider.")
    async def provider(self, info: Info) -> Provider | None:
        """The member, if it is a provider."""
        member = self._member(Dimension.PROVIDER)
        return None if member is None else await info.context.loaders.supply.provider.load(member)

    def _member(self, dimension: Dimension) -> UUID | None:
        return self.member if self.dimension is dimension else None


@strawberry.type(
    description="A month of usage at a glance. Of each list the dearest hundred are shown, dearest first."
)
class UsageSummary:
    """Sums of one calendar month in UTC."""

    month: date = strawberry.field(description="The month's first day.")
    totals: UsageTotals = strawberry.field(description="All of it.")
    by_project: list[UsageBucket] = strawberry.field(description="Apart by project.")
    by_api_key: list[UsageBucket] = strawberry.field(description="Apart by key.")
    by_model: list[UsageBucket] = strawberry.field(description="Apart by model.")
    by_provider: list[UsageBucket] = strawberry.field(description="Apart by provider.")

    @classmethod
    def of(cls, found: Summary) -> "UsageSummary":
        """`found` as the API shows it."""
        return cls(
            month=found.month,
            totals=UsageTotals.of(found.totals),
            by_project=_buckets(found.by[Dimension.PROJECT], Dimension.PROJECT),
            by_api_key=_buckets(found.by[Dimension.API_KEY], Dimension.API_KEY),
            by_model=_buckets(found.by[Dimension.MODEL], Dimension.MODEL),
            by_provider=_buckets(found.by[Dimension.PROVIDER], Dimension.PROVIDER),
        )


@strawberry.type(description="What a provider earned in a day with one model.")
class EarningsBucket:
    """One day and model of a provider; it does not say who the customers were."""

    model_uuid: strawberry.Private[UUID | None]
    starts_at: datetime = strawberry.field(description="The first moment of the day, in UTC.")
    requests: BigInt = strawberry.field(description="Requests that were billed.")
    tokens_prompt: BigInt = strawberry.field(description="Tokens of prompts, cached ones included.")
    tokens_completion: BigInt = strawberry.field(description="Generated tokens that were delivered.")
    image_pixel_steps: BigInt = strawberry.field(description="Pixels times steps of images.")
    gpu_ms: BigInt = strawberry.field(description="Milliseconds of GPU that were billed as such.")
    amount: Money = strawberry.field(description="What the provider earned.")

    @classmethod
    def of(cls, row: UsageSum) -> "EarningsBucket":
        """`row` as the API shows it."""
        return cls(
            model_uuid=row.member_id,
            starts_at=row.starts_at,
            requests=BigInt(row.totals.requests),
            tokens_prompt=BigInt(row.totals.tokens_prompt),
            tokens_completion=BigInt(row.totals.tokens_completion),
            image_pixel_steps=BigInt(row.totals.image_pixel_steps),
            gpu_ms=BigInt(row.totals.gpu_ms),
            amount=Money.of_nano_usd(row.totals.provider_nano_usd),
        )

    @resolved("The model that served it.")
    async def model(self, info: Info) -> Model | None:
        """The revision's model."""
        return (
            None
            if self.model_uuid is None
            else await info.context.loaders.catalog.model.load(self.model_uuid)
        )


Days = tuple[Scope, date, date, Dimension | None]
"""Whose usage, first day, day after the last, and what to keep apart."""
Hours = tuple[Scope, datetime, datetime, Dimension | None]
Months = tuple[Scope, date]


async def days_of(session: AsyncSession, asked: Days) -> list[UsageBucket]:
    """Days as the API shows them. Raises: InvalidRequest."""
    scope, since, until, by = asked
    rows = await usage_by_day(session, scope, since=since, until=until, by=by, sums_max=SUMS_MAX)
    return [UsageBucket.of(row, by) for row in rows]


async def hours_of(session: AsyncSession, asked: Hours) -> list[UsageBucket]:
    """Hours as the API shows them. Raises: InvalidRequest."""
    scope, since, until, by = asked
    rows = await usage_by_hour(session, scope, since=since, until=until, by=by, sums_max=SUMS_MAX)
    return [UsageBucket.of(row, by) for row in rows]


async def month_of(session: AsyncSession, asked: Months) -> UsageSummary:
    """A month as the API shows it."""
    scope, month = asked
    return UsageSummary.of(await usage_summary(session, scope, month=month))


async def earnings_of(session: AsyncSession, asked: Days) -> list[EarningsBucket]:
    """Days of a provider as the API shows them. Raises: InvalidRequest."""
    scope, since, until, by = asked
    rows = await usage_by_day(session, scope, since=since, until=until, by=by, sums_max=SUMS_MAX)
    return [EarningsBucket.of(row) for row in rows]


def _buckets(rows: Sequence[UsageSum], dimension: Dimension) -> list[UsageBucket]:
    return [UsageBucket.of(row, dimension) for row in rows]
