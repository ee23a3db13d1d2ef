"""The sweeper: holds whose time is over are given back."""

import structlog

from raymart_billing.connections import Connection, scalar

log = structlog.get_logger()

HOLDS_PER_SWEEP_MAX = 1_000
"""Holds voided by one statement: it locks their accounts, for milliseconds."""


async def sweep_holds(connection: Connection, *, limit: int = HOLDS_PER_SWEEP_MAX) -> int:
    """Void up to `limit` holds that are past their TTL by the database's clock, oldest first; returns how many.

    Idempotent, and safe beside captures, releases and other sweepers: a hold resolves once. Post what was used first
    (`sweep_usage`), or a usage would find its hold gone and be debited from the balance instead.
    """
    assert 0 < limit <= HOLDS_PER_SWEEP_MAX, f"sweep of {limit}"
    expired: int = await scalar(connection, b"select ledger_expire_holds(%(limit)s)", {"limit": limit})
    if expired:
        log.warning("hold.expired", holds=expired)
    return expired
