"""Celery's tasks. They carry no state and find their work in rows: a hint that is lost, late or doubled changes nothing."""

from uuid import UUID

from celery import Celery

from raymart_billing.work.broker import RUN, TICK
from raymart_billing.work.process import WorkProcess


def register_tasks(app: Celery, process: WorkProcess) -> None:
    """Make the tasks known to `app`; `process` does the work."""

    def tick() -> None:
        """Run what is due."""
        process.tick()

    def run(outbox_id: str) -> None:
        """Run one row if it is still due, then what else is due."""
        process.drain(UUID(outbox_id))

    app.task(tick, name=TICK)
    app.task(run, name=RUN)
