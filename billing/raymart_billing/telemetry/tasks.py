"""Background work of telemetry."""

import asyncio
from collections.abc import Sequence

import structlog

from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import REDIS_AWAY
from raymart_marketplace.supply.telemetry import read_records
from raymart_marketplace.supply.telemetry_hours import linked_nodes, prune, roll_up

log = structlog.get_logger(__name__)

_REDIS_TIMEOUT_S = 10.0


async def roll_up_minutes(context: Context) -> None:
    """Add every node's finished minutes to its hours. Without Redis nothing is added; it has the last ten minutes."""
    async with session_scope(context.sessions) as session:
        node_ids = await linked_nodes(session)
    try:
        async with asyncio.timeout(_REDIS_TIMEOUT_S):
            records = await read_records(context.redis, node_ids)
    except REDIS_AWAY as error:
        log.warning("telemetry.not_rolled_up", reason=type(error).__name__)
        return
    async with session_scope(context.sessions) as session:
        written = await roll_up(session, records)
    if written:
        log.debug("telemetry.rolled_up", nodes=len(records), rows=written)


async def forget_old_hours(context: Context) -> None:
    """Drop what is kept no longer."""
    async with session_scope(context.sessions) as session:
        await prune(session)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="telemetry.roll_up", handle=roll_up_minutes, every_s=60.0),
    Periodic(name="telemetry.prune", handle=forget_old_hours, every_s=600.0),
)
