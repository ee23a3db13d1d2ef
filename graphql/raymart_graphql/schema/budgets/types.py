"""Budgets as the API shows them."""

from datetime import datetime
from decimal import Decimal

import strawberry

from raymart_billing.budgets import BudgetPeriodKind, BudgetScope, BudgetStanding
from raymart_core.ids import show
from raymart_graphql.budget_scopes import PREFIX_OF_SCOPE
from raymart_graphql.enums import expose
from raymart_graphql.scalars import Money
from raymart_graphql.schema.user_error import Payload

expose(
    BudgetScope,
    name="BudgetScope",
    description="Whose spending a budget limits.",
    values={
        "ORGANIZATION": "All of an organization's.",
        "PROJECT": "One project's.",
        "API_KEY": "What one API key spends.",
    },
)
expose(
    BudgetPeriodKind,
    name="BudgetPeriod",
    description="How long a budget counts before it begins anew. Days and months are those of UTC.",
    values={
        "DAILY": "From midnight to midnight.",
        "MONTHLY": "From the first of a month to the next.",
        "LIFETIME": "For ever.",
    },
)


@strawberry.type(
    description="A limit on spending, in its present period. Requests beyond it are refused with 402."
)
class Budget:
    """One per scope and period."""

    scope: BudgetScope = strawberry.field(description="Whose spending it limits.")
    scope_id: strawberry.ID = strawberry.field(description="Global id of that organization, project or key.")
    period: BudgetPeriodKind = strawberry.field(description="When it begins anew.")
    limit: Money = strawberry.field(description="Most that may be spent in a period.")
    spent: Money = strawberry.field(description="What was billed in this period.")
    reserved: Money = strawberry.field(
        description="Set aside by gateways for requests that are running or about to."
    )
    resets_at: datetime | None = strawberry.field(
        description="When this period is over; null for a lifetime budget."
    )

    @classmethod
    def of(cls, standing: BudgetStanding) -> "Budget":
        """`standing` as the API shows it."""
        return cls(
            scope=standing.scope,
            scope_id=strawberry.ID(show(PREFIX_OF_SCOPE[standing.scope], standing.scope_id)),
            period=standing.period,
            limit=Money.of(standing.limit),
            spent=Money.of(standing.spent),
            reserved=Money.of(standing.reserved),
            resets_at=standing.resets_at,
        )


@strawberry.input(description="A limit to set.")
class SetBudgetInput:
    """For an organization, a project or a key."""

    scope_id: strawberry.ID = strawberry.field(
        description="Global id of the organization, project or API key whose spending is limited."
    )
    period: BudgetPeriodKind = strawberry.field(description="When it begins anew.")
    limit: Decimal = strawberry.field(
        description="Most that may be spent in a period, in US dollars; above 0."
    )


@strawberry.type(description="What setBudget gives back.")
class SetBudgetPayload(Payload):
    """The budget, or why there is none."""

    budget: Budget | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="A limit to remove.")
class RemoveBudgetInput:
    """Of an organization, a project or a key."""

    scope_id: strawberry.ID = strawberry.field(
        description="Global id of the organization, project or API key whose spending was limited."
    )
    period: BudgetPeriodKind = strawberry.field(description="Which of its budgets.")


@strawberry.type(description="What removeBudget gives back.")
class RemoveBudgetPayload(Payload):
    """Whether it is gone."""

    removed: bool | None = strawberry.field(
        default=None, description="True once it is gone; null when there are user errors."
    )
