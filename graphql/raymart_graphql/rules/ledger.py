"""Who may use: reversals, snapshots, seals and statements of the ledger."""

from collections.abc import Mapping

from raymart_graphql.permissions import Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

LEDGER_RULES: Mapping[str, Rule] = {
    "Query.ledgerSnapshots": Platform(Permission.PLATFORM_LEDGER_READ),
    "Query.ledgerHealth": Platform(Permission.PLATFORM_LEDGER_READ),
    "Mutation.reverseTransfers": Platform(Permission.PLATFORM_LEDGER_WRITE),
}
