"""Background work of machines' lives."""

from collections.abc import Sequence

from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.absence import mark_absent
from raymart_marketplace.supply.draining import follow_windows


async def absent(context: Context) -> None:
    """One pass over the nodes that are missed."""
    async with session_scope(context.sessions) as session:
        await mark_absent(session)


async def maintenance(context: Context) -> None:
    """One pass over the maintenance windows that begin or end."""
    async with session_scope(context.sessions) as session:
        await follow_windows(session)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="machines.absent", handle=absent, every_s=5.0),
    Periodic(name="machines.maintenance", handle=maintenance, every_s=2.0),
)
