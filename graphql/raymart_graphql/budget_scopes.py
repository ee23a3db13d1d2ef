"""What a budget limits, as ids show it. Apart from the schema, whose import costs the shell's commands a second."""

from raymart_billing.budgets import BudgetScope
from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix

PREFIX_OF_SCOPE = {
    BudgetScope.ORGANIZATION: Prefix.ORGANIZATION,
    BudgetScope.PROJECT: Prefix.PROJECT,
    BudgetScope.API_KEY: Prefix.API_KEY,
}


def scope_of(scope_id: str) -> BudgetScope:
    """What kind of thing a global id names. Raises: InvalidRequest."""
    head = scope_id.partition("_")[0]
    for scope, prefix in PREFIX_OF_SCOPE.items():
        if prefix.value == head:
            return scope
    raise InvalidRequest(
        f"{scope_id[:60]!r} names no organization, project or API key, such as 'org_' and 32 hex digits",
        param="scope_id",
    )
