"""Deposits, disputes, grants and alerts."""

import strawberry


@strawberry.type
class DepositMutation:
    """Root fields of the domain."""
