"""Holds and leases in the sweep: after usage was posted, what is over is given back."""

from collections.abc import Sequence

from raymart_billing.holds.sweep import (
    HOLDS_PER_SWEEP_MAX,
    LEASES_PER_SWEEP_MAX,
    prune_leases,
    sweep_holds,
    sweep_leases,
)
from raymart_billing.work import Context, Periodic, SweepStage, SweepStep


async def expire_leases(context: Context) -> None:
    """Void the leases of gateways that are gone, once their time is over."""
    async with context.pool.connection() as connection:
        while (await sweep_leases(connection)).seen == LEASES_PER_SWEEP_MAX:
            pass


async def expire_holds(context: Context) -> None:
    """Void the holds whose time is over."""
    async with context.pool.connection() as connection:
        while await sweep_holds(connection) == HOLDS_PER_SWEEP_MAX:
            pass


async def forget_leases(context: Context) -> None:
    """Forget leases and gateways that are long over."""
    async with context.pool.connection() as connection:
        while await prune_leases(connection) == LEASES_PER_SWEEP_MAX:
            pass


SWEEP_STEPS: Sequence[SweepStep] = (
    SweepStep(stage=SweepStage.EXPIRE_LEASES, run=expire_leases),
    SweepStep(stage=SweepStage.EXPIRE_HOLDS, run=expire_holds),
)
PERIODICS: Sequence[Periodic] = (Periodic(name="holds.forget_leases", handle=forget_leases, every_s=3600.0),)
