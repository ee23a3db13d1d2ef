"""The market's usage as a whole, for administrators. Customers find theirs on their organization."""

import strawberry

from raymart_billing.rollups import Scope
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.schema.usage.arguments import By, Month, Since, Until
from raymart_graphql.schema.usage.rollups import UsageBucket, UsageSummary


@strawberry.type
class UsageQuery:
    """Root fields of the domain."""

    @resolved("Usage of the whole market by day, oldest first; at most 400 sums. For administrators.")
    async def market_usage_by_day(
        self, info: Info, since: Since, until: Until, by: By = None
    ) -> list[UsageBucket]:
        """From the rollups."""
        return await info.context.loaders.usage.usage_by_day.load((Scope(), since, until, by))

    @resolved("A month of the whole market. For administrators.")
    async def market_usage_summary(self, info: Info, month: Month) -> UsageSummary:
        """From the rollups."""
        return await info.context.loaders.usage.usage_summary.load((Scope(), month))
