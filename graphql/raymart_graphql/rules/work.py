"""Who may use: background work and its runs."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

WORK_RULES: Mapping[str, Rule] = {}
