"""Who may use: reversals, snapshots, seals and statements of the ledger."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

LEDGER_RULES: Mapping[str, Rule] = {}
