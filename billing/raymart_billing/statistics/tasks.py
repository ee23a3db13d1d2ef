"""Background work of statistics."""

from collections.abc import Sequence

from raymart_billing.statistics.models import Span
from raymart_billing.statistics.refresh import make_figures, make_hours, make_slots, prune, sample_nodes
from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope


async def refresh_recent(context: Context) -> None:
    """Slots, hours, presence and the last half hour."""
    async with session_scope(context.sessions) as session:
        await make_slots(session)
        await make_hours(session)
        await sample_nodes(session)
    async with session_scope(context.sessions) as session:
        await make_figures(session, Span.HALF_HOUR)


async def refresh_day(context: Context) -> None:
    """The last day, by the hour."""
    async with session_scope(context.sessions) as session:
        await make_figures(session, Span.DAY)
        await prune(session)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="statistics.recent", handle=refresh_recent, every_s=60.0),
    Periodic(name="statistics.day", handle=refresh_day, every_s=600.0),
)
