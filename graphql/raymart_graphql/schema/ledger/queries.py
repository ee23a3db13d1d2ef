"""Reversals, snapshots, seals and statements of the ledger."""

import strawberry


@strawberry.type
class LedgerQuery:
    """Root fields of the domain."""
