"""Who may use: reversals, snapshots, seals and statements of the ledger."""

from collections.abc import Mapping

from raymart_graphql.permissions import Admin, Rule

LEDGER_RULES: Mapping[str, Rule] = {
    "Query.ledgerSnapshots": Admin(),
    "Query.ledgerHealth": Admin(),
    "Mutation.reverseTransfers": Admin(),
}
