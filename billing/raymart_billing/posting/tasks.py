"""Usage in the sweep and beside it: what gateways left is found, drained and posted; months are made ahead."""

from collections.abc import Sequence

from raymart_billing.connections import scalar
from raymart_billing.posting.post import sweep_usage
from raymart_billing.posting.recover import recover_checkpoints
from raymart_billing.spill import SpillStream, drain
from raymart_billing.work import Context, Periodic, SweepStage, SweepStep

MONTHS_AHEAD = 4
"""This month and three more: a job that fails for a whole season still finds its partitions."""
_MAKE_MONTHS = b"""
    select ensure_usage_partitions((clock_timestamp() at time zone 'UTC')::date, %(months)s)
"""


async def drain_spill(context: Context) -> None:
    """Bring in what gateways spilled to Redis, and to this machine when they are dead."""
    stream = SpillStream(context.settings.redis_url)
    try:
        async with context.pool.connection() as connection:
            await drain(connection, directory=context.settings.spill_dir, stream=stream)
    finally:
        await stream.aclose()


async def recover(context: Context) -> None:
    """Record the streams of dead gateways by their checkpoints."""
    async with context.pool.connection() as connection:
        await recover_checkpoints(connection)


async def post_unposted(context: Context) -> None:
    """Post recorded usage that no gateway has posted."""
    async with context.pool.connection() as connection:
        await sweep_usage(connection)


async def make_months(context: Context) -> None:
    """Make the partitions of the months to come."""
    async with context.pool.connection() as connection:
        await scalar(connection, _MAKE_MONTHS, {"months": MONTHS_AHEAD})


SWEEP_STEPS: Sequence[SweepStep] = (
    SweepStep(stage=SweepStage.DRAIN_SPILL, run=drain_spill),
    SweepStep(stage=SweepStage.RECOVER_CHECKPOINTS, run=recover),
    SweepStep(stage=SweepStage.POST_USAGE, run=post_unposted),
)
PERIODICS: Sequence[Periodic] = (Periodic(name="usage.make_months", handle=make_months, every_s=6 * 3600.0),)
