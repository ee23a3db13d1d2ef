"""Who may use: usage and its rollups."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

USAGE_RULES: Mapping[str, Rule] = {}
