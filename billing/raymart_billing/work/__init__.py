"""Background work: an outbox row for each effect, workers that lease rows, periodics, and a history of runs.

A part of billing declares its work in `<part>/tasks.py` (`TASKS`, `PERIODICS`, `SWEEP_STEPS`) and asks for it with
`outbox.enqueue` in the transaction that causes it.
"""

from raymart_billing.work import inbox, outbox
from raymart_billing.work.context import Context, GiveUp, LeaseLost, TaskContext
from raymart_billing.work.task import Periodic, SweepStage, SweepStep, Task

__all__ = [
    "Context",
    "GiveUp",
    "LeaseLost",
    "Periodic",
    "SweepStage",
    "SweepStep",
    "Task",
    "TaskContext",
    "inbox",
    "outbox",
]
