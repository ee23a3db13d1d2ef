"""Who may use: usage and its rollups."""

from collections.abc import Mapping

from raymart_graphql.permissions import MemberOfSource, Platform, Rule, SignedIn
from raymart_marketplace.accounts.permissions import Permission

USAGE_RULES: Mapping[str, Rule] = {
    "Query.marketUsageByDay": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.marketUsageSeries": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.request": SignedIn(),  # Null unless the viewer may see its organization's usage.
    "Query.marketUsageSummary": Platform(Permission.PLATFORM_MARKET_READ),
    "Provider.earningsByDay": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.earningsSeries": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.attempts": MemberOfSource(Permission.SUPPLY_READ),
    "Request.retained": MemberOfSource(Permission.PROMPTS_READ),
    "Organization.usageSeries": MemberOfSource(Permission.USAGE_READ),
    "Organization.requests": MemberOfSource(Permission.USAGE_READ),
    "Project.usageSeries": MemberOfSource(Permission.USAGE_READ),
    "Organization.usageRecords": MemberOfSource(Permission.USAGE_READ),
    "Organization.usageByDay": MemberOfSource(Permission.USAGE_READ),
    "Organization.usageByHour": MemberOfSource(Permission.USAGE_READ),
    "Organization.usageSummary": MemberOfSource(Permission.USAGE_READ),
}
