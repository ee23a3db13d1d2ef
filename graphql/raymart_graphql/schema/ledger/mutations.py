"""Reversals, snapshots, seals and statements of the ledger."""

import strawberry


@strawberry.type
class LedgerMutation:
    """Root fields of the domain."""
