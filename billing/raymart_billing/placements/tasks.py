"""Background work of placement."""

from collections.abc import Sequence

from raymart_billing.work import Context, Periodic
from raymart_marketplace.supply.planning.demand import Demands
from raymart_marketplace.supply.planning.passes import plan_all
from raymart_marketplace.supply.planning.standing import note_standing


async def plan(context: Context) -> None:
    """One pass over all providers, and how every model stands after it."""
    await note_standing(context.sessions, await Demands(context.redis).read())
    await plan_all(context.sessions)


PERIODICS: Sequence[Periodic] = (Periodic(name="placements.plan", handle=plan, every_s=3.0),)
