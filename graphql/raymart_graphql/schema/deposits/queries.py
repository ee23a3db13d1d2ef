"""Deposits, disputes, grants and alerts."""

import strawberry


@strawberry.type
class DepositQuery:
    """Root fields of the domain."""
