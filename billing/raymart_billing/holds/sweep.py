"""The sweeper: holds and leases whose time is over are given back."""

from dataclasses import dataclass
from uuid import UUID

import structlog

from raymart_billing.connections import Connection, scalar

log = structlog.get_logger()

HOLDS_PER_SWEEP_MAX = 1_000
"""Holds voided by one statement: it locks their accounts, for milliseconds."""
LEASES_PER_SWEEP_MAX = 200
RESTART_GRACE_S = 10.0
BROKEN_LEASE_RETRY_S = 600.0
"""How often a lease that cannot be voided is tried, and its alarm repeated."""
KEPT_AFTER_CLOSE_S = 7 * 86_400.0
"""Usage that is posted this long after its lease was closed no longer counts against its budgets."""

_EXPIRE_LEASES = b"""
    select expired, broken, refusals
      from lease_expire(%(limit)s, %(grace_s)s * interval '1 second', %(retry_s)s * interval '1 second')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What a sweep of leases did."""

    leases: int
    """Voided."""
    broken: tuple[UUID, ...]
    """Passed over, because their holds are not what they say."""

    @property
    def seen(self) -> int:
        """How many were due."""
        return self.leases + len(self.broken)


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


async def sweep_leases(
    connection: Connection, *, limit: int = LEASES_PER_SWEEP_MAX, grace_s: float = RESTART_GRACE_S
) -> Expired:
    """Void up to `limit` leases past their time whose gateway is gone.

    Idempotent, and safe beside gateways and other sweepers. Post what was used first, as for `sweep_holds`. Nothing
    expires within `grace_s` of the server's start, while gateways come back. A lease that the ledger refuses to void is
    passed over, logged, and tried again in 10 minutes.
    """
    assert 0 < limit <= LEASES_PER_SWEEP_MAX, f"sweep of {limit}"
    parameters = {"limit": limit, "grace_s": grace_s, "retry_s": BROKEN_LEASE_RETRY_S}
    row = await (await connection.execute(_EXPIRE_LEASES, parameters)).fetchone()
    assert row is not None
    expired, broken, refusals = row
    for lease_id, refusal in zip(broken or (), refusals or (), strict=True):
        log.error("lease.broken", lease_id=str(lease_id), error=refusal, look_at="raymart ledger verify")
    if expired:
        log.warning("lease.expired", leases=expired)
    return Expired(leases=expired, broken=tuple(broken or ()))


async def prune_leases(connection: Connection, *, limit: int = LEASES_PER_SWEEP_MAX) -> int:
    """Forget up to `limit` leases closed long ago, and gateways that are gone; returns how many leases. Idempotent."""
    pruned: int = await scalar(
        connection,
        b"select lease_prune(%(limit)s, %(kept_s)s * interval '1 second')",
        {"limit": limit, "kept_s": KEPT_AFTER_CLOSE_S},
    )
    return pruned
