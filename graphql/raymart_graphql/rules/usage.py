"""Who may use: usage and its rollups."""

from collections.abc import Mapping

from raymart_graphql.permissions import READERS, Admin, MemberOfSource, Rule

USAGE_RULES: Mapping[str, Rule] = {
    "Query.marketUsageByDay": Admin(),
    "Query.marketUsageSummary": Admin(),
    "Provider.earningsByDay": MemberOfSource(READERS),
}
