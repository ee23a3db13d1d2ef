"""Background work of rollouts."""

from collections.abc import Sequence

from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.rollouts import follow_aliases


async def follow(context: Context) -> None:
    """One pass over every model whose alias has moved."""
    async with session_scope(context.sessions) as session:
        await follow_aliases(session)


PERIODICS: Sequence[Periodic] = (Periodic(name="rollouts.follow", handle=follow, every_s=2.0),)
