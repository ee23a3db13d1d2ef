"""The sweep: what a gateway left behind is put right, in an order that no money falls through."""

from collections.abc import Iterable

from raymart_billing.work.context import Context
from raymart_billing.work.task import Periodic, SweepStep

SWEEP = "sweep"
SWEEP_TIMEOUT_S = 60.0


def sweep_of(steps: Iterable[SweepStep], *, every_s: float) -> Periodic:
    """The periodic that runs all `steps` in order of their stages: drain, recover, post, and only then expire."""
    ordered = sorted(steps, key=lambda step: step.stage)

    async def sweep(context: Context) -> None:
        for step in ordered:
            await step.run(context)

    return Periodic(name=SWEEP, handle=sweep, every_s=every_s, timeout_s=SWEEP_TIMEOUT_S)
