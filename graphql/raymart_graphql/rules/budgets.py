"""Who may set budgets and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymart_core.ids import Prefix
from raymart_graphql.context import Operation
from raymart_graphql.permissions import MemberOf, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

_LIMITED = (Prefix.ORGANIZATION, Prefix.PROJECT, Prefix.API_KEY)


@dataclass(frozen=True, slots=True)
class MemberOfScope:
    """Who has `permission` in the organization that owns what `input.scope_id` names: itself, a project or a key."""

    permission: Permission

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, lesser roles, and ids of things that do not exist."""
        head = str(arguments["input_"].scope_id).partition("_")[0]
        # What is none of the three is refused as a malformed organization.
        kind = next((prefix for prefix in _LIMITED if prefix.value == head), Prefix.ORGANIZATION)
        await MemberOf("scope_id", kind, self.permission).check(operation, source, arguments)


BUDGETS_RULES: Mapping[str, Rule] = {
    "Mutation.setBudget": MemberOfScope(Permission.BUDGETS_MANAGE),
    "Mutation.removeBudget": MemberOfScope(Permission.BUDGETS_MANAGE),
    "Mutation.setInferenceLimits": MemberOfScope(Permission.BUDGETS_MANAGE),
    "Mutation.removeInferenceLimits": MemberOfScope(Permission.BUDGETS_MANAGE),
    "Mutation.setInferenceAllowance": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.removeInferenceAllowance": Platform(Permission.PLATFORM_MARKET_MANAGE),
}
