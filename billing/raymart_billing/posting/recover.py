"""Recovery: the checkpoints of dead gateways become requests that failed, billed for what was delivered, once."""

import structlog

from raymart_billing.connections import Connection
from raymart_billing.records import RecordOrigin, restore

log = structlog.get_logger()

BATCH_MAX = 500
GRACE_S = 10.0
"""A checkpoint younger than this is of a gateway that ran a moment ago, whatever its lock says; and after a restart of
the server every gateway has lost its lock, and gets this long to take it again."""

_RECORDED = b"""
    delete from usage_checkpoint c using request r
     where r.id = c.request_id and c.updated_at < clock_timestamp() - interval '10 seconds'
"""
_LOST = b"""
    select request_id, record from usage_checkpoint
     where updated_at < clock_timestamp() - %(grace_s)s * interval '1 second'
       and pg_postmaster_start_time() < clock_timestamp() - %(grace_s)s * interval '1 second'
       and not gateway_is_alive(gateway_id)
     order by request_id
     limit %(limit)s
       for update skip locked
"""
_DELETE = b"delete from usage_checkpoint where request_id = any(%(ids)s)"


async def recover_checkpoints(connection: Connection, *, grace_s: float = GRACE_S) -> int:
    """Record every running stream of a gateway that is dead by `gateway_is_alive`; returns how many.

    Exactly once: the request's primary key decides between the recovery, another one beside it, a spilled record, and a
    gateway that comes back and records the request itself. Drain what was spilled first, or a record that its gateway
    had finished would be replaced by its last checkpoint.
    Locks the checkpoints' rows; those that another session has at hand are passed over.
    """
    recovered = 0
    await connection.execute(_RECORDED)
    while True:
        async with connection.transaction():
            values = {"grace_s": grace_s, "limit": BATCH_MAX}
            rows = await (await connection.execute(_LOST, values)).fetchall()
            if not rows:
                break
            restored = await restore(
                connection, [record for _, record in rows], origin=RecordOrigin.CHECKPOINT
            )
            # Also those that were set aside: they are kept there.
            await connection.execute(_DELETE, {"ids": [request_id for request_id, _ in rows]})
        recovered += len(restored.requests)
    if recovered:
        log.warning("usage.recovered", requests=recovered)
    return recovered
