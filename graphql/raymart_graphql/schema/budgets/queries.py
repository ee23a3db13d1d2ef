"""Budgets and leases."""

import strawberry


@strawberry.type
class BudgetQuery:
    """Root fields of the domain."""
