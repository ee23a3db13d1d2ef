"""Who may use: rate cards, caps, fees and asks."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

PRICING_RULES: Mapping[str, Rule] = {}
