"""Forget what has ended long ago. What is dead stays until somebody decides."""

import structlog

from raymart_billing.connections import Connection
from raymart_billing.work.context import Context

log = structlog.get_logger()

ROWS_PER_PRUNE_MAX = 10_000
"""Rows deleted by one statement, so that no transaction is long."""

_STATEMENTS = {
    # With its key: the same key may then be used again.
    "outbox": b"""
        delete from outbox where id in (
            select id from outbox
             where finished_at < (select clock_timestamp()) - interval '30 days' and state in ('done', 'cancelled')
             limit %(limit)s)
    """,
    # A periodic that went well says little, and the sweep has 17,000 of them a day.
    "periodic_runs": b"""
        delete from task_run where id in (
            select id from task_run
             where finished_at < (select clock_timestamp()) - interval '1 day' and state = 'done' and outbox_id is null
             limit %(limit)s)
    """,
    "failed_runs": b"""
        delete from task_run where id in (
            select id from task_run
             where finished_at < (select clock_timestamp()) - interval '30 days' and outbox_id is null
             limit %(limit)s)
    """,
    "inbox": b"""
        delete from inbox where (source, message_id) in (
            select source, message_id from inbox
             where received_at < (select clock_timestamp()) - interval '90 days' limit %(limit)s)
    """,
}


async def prune(context: Context) -> None:
    """Delete what is old enough, in batches."""
    async with context.pool.connection() as connection:
        for table, statement in _STATEMENTS.items():
            if pruned := await _prune(connection, statement):
                log.info("work.pruned", table=table, rows=pruned)


async def _prune(connection: Connection, statement: bytes) -> int:
    pruned = 0
    while True:
        deleted = (await connection.execute(statement, {"limit": ROWS_PER_PRUNE_MAX})).rowcount
        pruned += deleted
        if deleted < ROWS_PER_PRUNE_MAX:
            return pruned
