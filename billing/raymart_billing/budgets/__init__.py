"""Budgets: limits on what an organization, a project or a key may spend in a day, a month or ever."""

from raymart_billing.budgets.models import BudgetPeriodKind, BudgetScope
from raymart_billing.budgets.service import (
    BudgetStanding,
    budgets_of_organization,
    budgets_of_scopes,
    remove_budget,
    set_budget,
)

__all__ = [
    "BudgetPeriodKind",
    "BudgetScope",
    "BudgetStanding",
    "budgets_of_organization",
    "budgets_of_scopes",
    "remove_budget",
    "set_budget",
]
