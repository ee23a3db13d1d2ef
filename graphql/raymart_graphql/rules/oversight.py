"""Who may suspend, flag and switch, and look for people and organizations."""

from collections.abc import Mapping

from raymart_graphql.permissions import MemberOfSource, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

OVERSIGHT_RULES: Mapping[str, Rule] = {
    "Query.suspensions": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.flaggedUsage": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.featureSwitches": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.users": Platform(Permission.PLATFORM_ACCOUNTS_MANAGE),
    "Query.organizations": Platform(Permission.PLATFORM_BILLING_READ),
    "Mutation.suspendOrganization": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.suspendUser": Platform(Permission.PLATFORM_ACCOUNTS_MANAGE),
    "Mutation.suspendProvider": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.suspendApiKey": Platform(Permission.PLATFORM_MARKET_MANAGE),
    # Of a person it needs PLATFORM_ACCOUNTS_MANAGE besides; the mutation asks.
    "Mutation.liftSuspension": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.flagUsage": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.clearUsageFlag": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.setFeatureSwitch": Platform(Permission.PLATFORM_MARKET_MANAGE),
    # A provider's name is public; that and why it is suspended is its own business.
    "Provider.suspension": MemberOfSource(Permission.SUPPLY_READ),
}
