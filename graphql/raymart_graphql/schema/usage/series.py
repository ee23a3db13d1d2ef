"""Series of usage for charts: each bucket of the range, with zeros where nothing was used."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.rollups import Dimension, Line, Scope, Series, Step, Totals, usage_series
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.catalog.types import Model
from raymart_graphql.schema.identity.types import ApiKey, Project
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.usage.rollups import UsageTotals


@strawberry.type(description="Usage of one hour or one day.")
class UsagePoint:
    """Zeros where nothing was used."""

    starts_at: datetime = strawberry.field(description="Its first moment, in UTC.")
    totals: UsageTotals = strawberry.field(description="What was used.")


@strawberry.type(description="One line of a chart: a project, key, model or provider, or all of it.")
class UsageLine:
    """Its points are those of the series."""

    dimension: strawberry.Private[Dimension | None]
    member: strawberry.Private[UUID | None]
    totals: UsageTotals = strawberry.field(description="Over the whole range.")
    points: list[UsagePoint] = strawberry.field(description="Each hour or day of the range, oldest first.")

    @classmethod
    def of(cls, line: Line, starts: Sequence[datetime], by: Dimension | None) -> "UsageLine":
        """`line` as the API shows it."""
        return cls(
            dimension=by,
            member=line.member_id,
            totals=UsageTotals.of(line.totals),
            points=[
                UsagePoint(starts_at=start, totals=UsageTotals.of(totals))
                for start, totals in zip(starts, line.points, strict=True)
            ],
        )

    @resolved("The project; null unless the lines are projects.")
    async def project(self, info: Info) -> Project | None:
        """The member, if it is a project."""
        member = self._member(Dimension.PROJECT)
        return None if member is None else await info.context.loaders.identity.project.load(member)

    @resolved("The key; null unless the lines are keys, and for what people asked with a token of their own.")
    async def api_key(self, info: Info) -> ApiKey | None:
        """The member, if it is a key."""
        member = self._member(Dimension.API_KEY)
        return None if member is None else await info.context.loaders.identity.api_key.load(member)

    @resolved("The model; null unless the lines are models.")
    async def model(self, info: Info) -> Model | None:
        """The member, if it is a model."""
        member = self._member(Dimension.MODEL)
        return None if member is None else await info.context.loaders.catalog.model.load(member)

    @resolved("The provider; null unless the lines are providers.")
    async def provider(self, info: Info) -> Provider | None:
        """The member, if it is a provider."""
        member = self._member(Dimension.PROVIDER)
        return None if member is None else await info.context.loaders.supply.provider.load(member)

    def _member(self, dimension: Dimension) -> UUID | None:
        return self.member if self.dimension is dimension else None


@strawberry.type(description="Usage over a range, by the hour or the day.")
class UsageSeries:
    """Nothing is left out: its points add up to its lines, and its lines to its totals."""

    since: datetime = strawberry.field(description="The first moment of its first hour or day.")
    until: datetime = strawberry.field(description="The first moment after its last.")
    totals: UsageTotals = strawberry.field(description="Over all lines.")
    lines: list[UsageLine] = strawberry.field(
        description="One, or one for each member; what cost most first."
    )

    @classmethod
    def of(cls, found: Series, by: Dimension | None) -> "UsageSeries":
        """`found` as the API shows it."""
        return cls(
            since=found.starts[0],
            until=found.starts[-1] + found.step.length,
            totals=UsageTotals.of(found.totals),
            lines=[UsageLine.of(line, found.starts, by) for line in found.lines],
        )


@strawberry.type(description="What a provider earned in one hour or day.")
class EarningsPoint:
    """Zeros where nothing was sold."""

    starts_at: datetime = strawberry.field(description="Its first moment, in UTC.")
    requests: BigInt = strawberry.field(description="Requests that were billed.")
    tokens: BigInt = strawberry.field(description="Tokens of prompts and answers.")
    amount: Money = strawberry.field(description="What the provider earned.")

    @classmethod
    def of(cls, start: datetime, totals: Totals) -> "EarningsPoint":
        """`totals` as the provider sees them."""
        return cls(
            starts_at=start,
            requests=BigInt(totals.requests),
            tokens=BigInt(totals.tokens_prompt + totals.tokens_completion),
            amount=Money.of_nano_usd(totals.provider_nano_usd),
        )


@strawberry.type(description="What a provider earned with one model, or with all.")
class EarningsLine:
    """It does not say who the customers were."""

    model_uuid: strawberry.Private[UUID | None]
    requests: BigInt = strawberry.field(description="Requests that were billed, over the whole range.")
    amount: Money = strawberry.field(description="What the provider earned, over the whole range.")
    points: list[EarningsPoint] = strawberry.field(description="Each hour or day of the range, oldest first.")

    @classmethod
    def of(cls, line: Line, starts: Sequence[datetime]) -> "EarningsLine":
        """`line` as the provider sees it."""
        return cls(
            model_uuid=line.member_id,
            requests=BigInt(line.totals.requests),
            amount=Money.of_nano_usd(line.totals.provider_nano_usd),
            points=[
                EarningsPoint.of(start, totals) for start, totals in zip(starts, line.points, strict=True)
            ],
        )

    @resolved("The model; null in the line of all models.")
    async def model(self, info: Info) -> Model | None:
        """The revision's model."""
        found = self.model_uuid
        return None if found is None else await info.context.loaders.catalog.model.load(found)


@strawberry.type(description="What a provider earned over a range, by the hour or the day.")
class EarningsSeries:
    """From the rollups."""

    since: datetime = strawberry.field(description="The first moment of its first hour or day.")
    until: datetime = strawberry.field(description="The first moment after its last.")
    requests: BigInt = strawberry.field(description="Requests that were billed.")
    amount: Money = strawberry.field(description="What the provider earned.")
    lines: list[EarningsLine] = strawberry.field(description="One, or one for each model.")

    @classmethod
    def of(cls, found: Series) -> "EarningsSeries":
        """`found` as the provider sees it."""
        return cls(
            since=found.starts[0],
            until=found.starts[-1] + found.step.length,
            requests=BigInt(found.totals.requests),
            amount=Money.of_nano_usd(found.totals.provider_nano_usd),
            lines=[EarningsLine.of(line, found.starts) for line in found.lines],
        )


Asked = tuple[Scope, datetime, datetime, Step, Dimension | None]
"""Whose usage, from when, until when, by what length, and what to keep apart."""


async def series_of(session: AsyncSession, asked: Asked) -> UsageSeries:
    """A series as customers see it. Raises: InvalidRequest."""
    scope, since, until, step, by = asked
    found = await usage_series(session, scope, since=since, until=until, step=step, by=by)
    return UsageSeries.of(found, by)


async def earnings_series_of(session: AsyncSession, asked: Asked) -> EarningsSeries:
    """A series as providers see it. Raises: InvalidRequest."""
    scope, since, until, step, by = asked
    return EarningsSeries.of(await usage_series(session, scope, since=since, until=until, step=step, by=by))
