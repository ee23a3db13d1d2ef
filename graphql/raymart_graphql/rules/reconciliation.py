"""Who may use: reconciliation of payouts."""

from collections.abc import Mapping

from raymart_graphql.permissions import Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

_READ = Platform(Permission.PLATFORM_PAYOUTS_READ)
_MANAGE = Platform(Permission.PLATFORM_PAYOUTS_MANAGE)

RECONCILIATION_RULES: Mapping[str, Rule] = {
    "Query.chainState": _READ,
    "Query.reconciliationRuns": _READ,
    "Query.reconciliationDifferences": _READ,
    "Mutation.requestReconciliation": _MANAGE,
    "Mutation.resolveReconciliationDifference": _MANAGE,
    "Mutation.recordTreasuryWithdrawal": _MANAGE,
}
