"""Who may use: invoices, credit notes and refunds."""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule

INVOICES_RULES: Mapping[str, Rule] = {}
