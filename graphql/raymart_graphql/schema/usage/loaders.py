"""Loaders of requests, usage records and their sums."""

from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.usage.filters import AttemptWish, RequestWish
from raymart_graphql.schema.usage.provider_attempts import ProviderAttempt
from raymart_graphql.schema.usage.rollups import (
    Days,
    EarningsBucket,
    Hours,
    Months,
    UsageBucket,
    UsageSummary,
    days_of,
    earnings_of,
    hours_of,
    month_of,
)
from raymart_graphql.schema.usage.series import (
    Asked,
    EarningsSeries,
    UsageSeries,
    earnings_series_of,
    series_of,
)
from raymart_graphql.schema.usage.types import Attempt, Request, UsageRecord
from raymart_marketplace.metering import models as metering
from raymart_marketplace.metering.parts import of_requests


class UsageLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.request = self._known(metering.Request, Request.of)
        self.attempts_of_request: DataLoader[UUID, list[Attempt]] = DataLoader(load_fn=self._attempts)
        self.usage_record = self._known(metering.UsageRecord, UsageRecord.of)
        self.usage_of_request: DataLoader[UUID, list[UsageRecord]] = DataLoader(load_fn=self._usage)
        self.usage_of_organization = self._pages(USAGE, metering.UsageRecord.organization_id)
        self.usage_by_day: DataLoader[Days, list[UsageBucket]] = self._each(days_of)
        self.usage_by_hour: DataLoader[Hours, list[UsageBucket]] = self._each(hours_of)
        self.usage_summary: DataLoader[Months, UsageSummary] = self._each(month_of)
        self.usage_series: DataLoader[Asked, UsageSeries] = self._each(series_of)
        self.earnings_series: DataLoader[Asked, EarningsSeries] = self._each(earnings_series_of)
        self.requests_of_organization = self._wished(_requests, metering.Request.organization_id)
        self.attempts_of_provider = self._wished(_attempts, metering.Attempt.provider_id)
        self.earnings_by_day: DataLoader[Days, list[EarningsBucket]] = self._each(earnings_of)

    async def _attempts(self, request_ids: list[UUID]) -> list[list[Attempt]]:
        statement = (
            select(metering.Attempt)
            .where(metering.Attempt.request_id.in_(request_ids))
            .order_by(metering.Attempt.request_id, metering.Attempt.position)
        )
        found: dict[UUID, list[Attempt]] = {request_id: [] for request_id in request_ids}
        async with self._reading.session() as session:
            for row in await session.scalars(statement):
                found[row.request_id].append(Attempt.of(row))
        return [found[request_id] for request_id in request_ids]

    async def _usage(self, request_ids: list[UUID]) -> list[list[UsageRecord]]:
        statement = (
            select(metering.UsageRecord)
            .where(of_requests(request_ids))
            .order_by(metering.UsageRecord.part, metering.UsageRecord.id)
        )
        found: dict[UUID, list[UsageRecord]] = {request_id: [] for request_id in request_ids}
        async with self._reading.session() as session:
            for row in await session.scalars(statement):
                record = UsageRecord.of(row)
                found[record.request_uuid].append(record)
        return [found[request_id] for request_id in request_ids]


USAGE = Listing(
    name="usage",
    entity=metering.UsageRecord,
    key=metering.UsageRecord.id,
    show=UsageRecord.of,
    newest_first=True,
)


def _requests(wish: RequestWish) -> Listing[metering.Request, Request]:
    return Listing(
        name="requests",
        entity=metering.Request,
        key=metering.Request.id,
        show=Request.of,
        newest_first=True,
        where=tuple(wish.conditions()),
    )


def _attempts(wish: AttemptWish) -> Listing[metering.Attempt, ProviderAttempt]:
    return Listing(
        name="provider_attempts",
        entity=metering.Attempt,
        key=metering.Attempt.id,
        show=ProviderAttempt.of,
        newest_first=True,
        where=tuple(wish.conditions()),
    )
