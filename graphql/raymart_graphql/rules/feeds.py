"""Who may follow: usage, balance and machines."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, Rule
from raymart_marketplace.accounts.permissions import Permission

FEEDS_RULES: Mapping[str, Rule] = {
    "Subscription.usageTicks": MemberOf("organization_id", Prefix.ORGANIZATION, Permission.USAGE_READ),
    "Subscription.balanceChanged": MemberOf(
        "organization_id", Prefix.ORGANIZATION, Permission.ORGANIZATION_READ
    ),
    "Subscription.nodeStatus": MemberOf("provider_id", Prefix.PROVIDER, Permission.SUPPLY_READ),
}
