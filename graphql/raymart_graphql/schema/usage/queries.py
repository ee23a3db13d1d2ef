"""The market's usage as a whole, for administrators. Customers find theirs on their organization."""

from typing import Annotated

import strawberry

from raymart_billing.rollups import Scope
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import Step
from raymart_graphql.fields import resolved
from raymart_graphql.permissions import may_see
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.usage.arguments import (
    By,
    ByStep,
    Month,
    Since,
    SinceMoment,
    Until,
    UntilMoment,
)
from raymart_graphql.schema.usage.rollups import UsageBucket, UsageSummary
from raymart_graphql.schema.usage.series import UsageSeries
from raymart_graphql.schema.usage.types import Request
from raymart_marketplace.accounts.permissions import Permission


@strawberry.type
class UsageQuery:
    """Root fields of the domain."""

    @resolved("Usage of the whole market by day, oldest first; at most 400 sums. For administrators.")
    async def market_usage_by_day(
        self, info: Info, since: Since, until: Until, by: By = None
    ) -> list[UsageBucket]:
        """From the rollups."""
        return await info.context.loaders.usage.usage_by_day.load((Scope(), since, until, by))

    @resolved("Usage of the whole market over a range with nothing left out, for charts. For administrators.")
    async def market_usage_series(
        self, info: Info, since: SinceMoment, until: UntilMoment, step: ByStep = Step.DAY, by: By = None
    ) -> UsageSeries:
        """From the rollups."""
        return await info.context.loaders.usage.usage_series.load((Scope(), since, until, step, by))

    @resolved("The request with this id; null when there is none, or not for the viewer.")
    async def request(
        self,
        info: Info,
        item_id: Annotated[
            strawberry.ID,
            strawberry.argument(name="id", description="Global id, as `x-request-id` shows it."),
        ],
    ) -> Request | None:
        """By id, for those who may see its organization's usage."""
        request_id = parse_global_id(Prefix.REQUEST, item_id, field="id")
        found = await info.context.loaders.usage.request.load(request_id)
        return found if found and await may_see(info.context, found, Permission.USAGE_READ) else None

    @resolved("A month of the whole market. For administrators.")
    async def market_usage_summary(self, info: Info, month: Month) -> UsageSummary:
        """From the rollups."""
        return await info.context.loaders.usage.usage_summary.load((Scope(), month))
