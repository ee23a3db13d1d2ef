"""Who may do what: one table, put together from a module per domain.

`RULES` has an entry for every root field and for every guarded field of a type that strangers can reach. The schema
does not build when a root field has none (`GuardedSchema`), so nothing new is open by accident. Which role has which
permission is another table, `raymart_marketplace.accounts.permissions`.
"""

from collections.abc import Mapping

from raymart_graphql.permissions import Rule
from raymart_graphql.rules.audit import AUDIT_RULES
from raymart_graphql.rules.budgets import BUDGETS_RULES
from raymart_graphql.rules.deposits import DEPOSITS_RULES
from raymart_graphql.rules.feeds import FEEDS_RULES
from raymart_graphql.rules.invoices import INVOICES_RULES
from raymart_graphql.rules.keys import KEYS_RULES
from raymart_graphql.rules.ledger import LEDGER_RULES
from raymart_graphql.rules.market import MARKET_RULES
from raymart_graphql.rules.members import MEMBERS_RULES
from raymart_graphql.rules.oidc import OIDC_RULES
from raymart_graphql.rules.oversight import OVERSIGHT_RULES
from raymart_graphql.rules.payouts import PAYOUTS_RULES
from raymart_graphql.rules.pricing import PRICING_RULES
from raymart_graphql.rules.reconciliation import RECONCILIATION_RULES
from raymart_graphql.rules.sessions import SESSION_RULES
from raymart_graphql.rules.supply import SUPPLY_RULES
from raymart_graphql.rules.usage import USAGE_RULES
from raymart_graphql.rules.usdc_deposits import USDC_DEPOSITS_RULES
from raymart_graphql.rules.wallets import WALLETS_RULES
from raymart_graphql.rules.work import WORK_RULES

RULES: Mapping[str, Rule] = {
    **SESSION_RULES,
    **MARKET_RULES,
    **MEMBERS_RULES,
    **KEYS_RULES,
    **LEDGER_RULES,
    **PRICING_RULES,
    **BUDGETS_RULES,
    **USAGE_RULES,
    **WALLETS_RULES,
    **OIDC_RULES,
    **WORK_RULES,
    **INVOICES_RULES,
    **DEPOSITS_RULES,
    **USDC_DEPOSITS_RULES,
    **OVERSIGHT_RULES,
    **PAYOUTS_RULES,
    **SUPPLY_RULES,
    **AUDIT_RULES,
    **FEEDS_RULES,
    **RECONCILIATION_RULES,
}
"""Operation or guarded field to rule. Fields of tenants' own types need none: only their owners reach them."""

PUBLIC_TYPES = frozenset({"Model", "ModelAlias", "ModelRevision", "Provider", "Offer", "LiveEndpoint"})
"""Types that strangers reach; a test holds that each field on them is either meant for all or in RULES."""
