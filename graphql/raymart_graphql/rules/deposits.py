"""Who may use: deposits, disputes, grants and alerts."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

DEPOSITS_RULES: Mapping[str, Rule] = {}
