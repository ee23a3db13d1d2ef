"""Budgets."""

from decimal import Decimal

import strawberry

from raymart_billing.budgets import remove_budget, set_budget
from raymart_core.errors import InvalidRequest
from raymart_core.money import Money as Amount
from raymart_graphql.budget_scopes import PREFIX_OF_SCOPE, scope_of
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.budgets.types import (
    Budget,
    RemoveBudgetInput,
    RemoveBudgetPayload,
    SetBudgetInput,
    SetBudgetPayload,
)


@strawberry.type
class BudgetMutation:
    """Root fields of the domain."""

    @mutation("Limit what an organization, a project or an API key may spend; takes effect within seconds.")
    async def set_budget(self, info: Info, input_: SetBudgetInput) -> SetBudgetPayload:
        """A repeat changes the limit and keeps what was counted."""
        scope = scope_of(input_.scope_id)
        principal = await info.context.principal()
        async with info.context.writing() as session:
            standing = await set_budget(
                session,
                scope=scope,
                scope_id=parse_global_id(PREFIX_OF_SCOPE[scope], input_.scope_id, field="scope_id"),
                period=input_.period,
                limit=_limit(input_.limit),
                actor_id=principal.user_id,
            )
        return SetBudgetPayload(budget=Budget.of(standing))

    @mutation("Limit its spending no more, and forget what was counted.")
    async def remove_budget(self, info: Info, input_: RemoveBudgetInput) -> RemoveBudgetPayload:
        """A user error when there is no such budget."""
        scope = scope_of(input_.scope_id)
        principal = await info.context.principal()
        async with info.context.writing() as session:
            await remove_budget(
                session,
                scope=scope,
                scope_id=parse_global_id(PREFIX_OF_SCOPE[scope], input_.scope_id, field="scope_id"),
                period=input_.period,
                actor_id=principal.user_id,
            )
        return RemoveBudgetPayload(removed=True)


def _limit(value: Decimal) -> Amount:
    try:
        return Amount.parse(str(value))
    except ValueError as error:
        raise InvalidRequest(str(error), param="limit") from None
