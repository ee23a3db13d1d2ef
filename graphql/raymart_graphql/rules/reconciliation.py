"""Who may use: reconciliation of payouts."""

from collections.abc import Mapping

from raymart_graphql.permissions import Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

RECONCILIATION_RULES: Mapping[str, Rule] = {
    "Query.reconciliationRuns": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.reconciliationDifferences": Platform(Permission.PLATFORM_BILLING_READ),
    "Mutation.requestReconciliation": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.resolveReconciliationDifference": Platform(Permission.PLATFORM_BILLING_MANAGE),
}
