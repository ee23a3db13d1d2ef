"""Budgets and leases."""

import strawberry


@strawberry.type
class BudgetMutation:
    """Root fields of the domain."""
