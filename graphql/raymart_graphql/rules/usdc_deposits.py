"""Who may use: top-ups in USDC."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

USDC_DEPOSITS_RULES: Mapping[str, Rule] = {
    "Query.undecidedUsdcDeposits": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.treasuryDeposits": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.usdcSenders": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.usdcTreasury": Platform(Permission.PLATFORM_BILLING_READ),
    "Mutation.createUsdcTopUp": MemberOf("organization_id", Prefix.ORGANIZATION, Permission.BILLING_MANAGE),
    "Mutation.assignUsdcDeposit": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.fundTreasury": Platform(Permission.PLATFORM_LEDGER_WRITE),
    "Mutation.refundUsdcDeposit": Platform(Permission.PLATFORM_REFUND),
    "Mutation.cancelUsdcRefund": Platform(Permission.PLATFORM_REFUND),
    "Mutation.markUsdcSender": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.unmarkUsdcSender": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Organization.usdcTopUps": MemberOfSource(Permission.BILLING_READ),
    "Organization.usdcDeposits": MemberOfSource(Permission.BILLING_READ),
}
