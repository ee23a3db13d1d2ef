"""Who may use: budgets and leases."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

BUDGETS_RULES: Mapping[str, Rule] = {}
