"""What the sweep does for holds."""

from raymart_billing.holds.sweep import HOLDS_PER_SWEEP_MAX, sweep_holds
from raymart_billing.work import Context, SweepStage, SweepStep


async def expire_holds(context: Context) -> None:
    """Void the holds whose time is over."""
    async with context.pool.connection() as connection:
        while await sweep_holds(connection) == HOLDS_PER_SWEEP_MAX:
            pass


SWEEP_STEPS = [SweepStep(stage=SweepStage.EXPIRE_HOLDS, run=expire_holds)]
