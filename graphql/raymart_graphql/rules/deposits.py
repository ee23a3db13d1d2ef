"""Who may use: deposits, disputes, grants and alerts."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

DEPOSITS_RULES: Mapping[str, Rule] = {
    "Query.disputes": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.heldDeposits": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.stripeEventsInReview": Platform(Permission.PLATFORM_BILLING_READ),
    "Mutation.createDeposit": MemberOf("organization_id", Prefix.ORGANIZATION, Permission.BILLING_MANAGE),
    "Mutation.setLowBalanceThreshold": MemberOf(
        "organization_id", Prefix.ORGANIZATION, Permission.BILLING_MANAGE
    ),
    "Mutation.refundDeposit": Platform(Permission.PLATFORM_REFUND),
    "Mutation.creditHeldDeposit": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.resolveStripeEvent": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.adjustBalance": Platform(Permission.PLATFORM_LEDGER_WRITE),
    "Mutation.blockCustomer": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Organization.deposits": MemberOfSource(Permission.BILLING_READ),
    "Organization.creditGrants": MemberOfSource(Permission.BILLING_READ),
    "Organization.alerts": MemberOfSource(Permission.BILLING_READ),
    "Mutation.unblockCustomer": Platform(Permission.PLATFORM_BILLING_MANAGE),
}
