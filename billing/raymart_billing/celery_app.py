"""The Celery application: `celery -A raymart_billing.celery_app worker`, and the same with `beat`.

Delivery is at least once and may be never: Redis loses a message when a worker dies at the wrong moment, and brings it
back twice when a task outlives `visibility_timeout`. So messages only hint at rows (`raymart_billing.work`).
"""

import logging
from functools import cache

from celery import Celery
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.signals import (
    beat_init,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)
from celery.worker.consumer import Consumer

from raymart_billing.tasks import register_tasks
from raymart_billing.work.broker import TICK, make_celery
from raymart_billing.work.process import WorkProcess
from raymart_billing.work.registry import Registry, by_name, collect
from raymart_billing.work.sweep import sweep_of
from raymart_billing.work.task import TIMEOUT_S_MAX
from raymart_billing.work.worker import DRAIN_S_MAX
from raymart_core.logs import configure_logs
from raymart_marketplace.settings import ControlSettings

TASK_TIME_LIMIT_S = int(DRAIN_S_MAX + TIMEOUT_S_MAX) + 30
"""When a worker with child processes kills a task that did not end by itself."""


def create_celery(settings: ControlSettings, process: WorkProcess) -> Celery:
    """An application on the broker of `settings`, with its tasks and the beat's schedule."""
    app = make_celery(settings.broker_url, task_time_limit_s=TASK_TIME_LIMIT_S)
    app.conf.update(
        # In memory: a schedule file would only remember when the last tick was, and one is always welcome.
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=settings.work_tick_s,
        # Without `expires`, which would compare two machines' clocks: ticks that piled up cost a millisecond each.
        beat_schedule={"tick": {"task": TICK, "schedule": settings.work_tick_s}},
    )
    register_tasks(app, process)
    return app


def serve(settings: ControlSettings, registry: Registry) -> Celery:
    """An application for this process to run: with logs, and a worker of `registry` where Celery runs tasks."""
    process = WorkProcess(settings, registry)
    _configure_logs(settings)
    _tie_to_workers(process)
    return create_celery(settings, process)


def make_registry(settings: ControlSettings) -> Registry:
    """All work of all parts, the sweep among it."""
    declared = collect()
    sweep = sweep_of(declared.sweep_steps, every_s=settings.sweep_interval_s)
    return by_name(declared.tasks, [*declared.periodics, sweep])


def __getattr__(name: str) -> Celery:
    """`app`, made when the `celery` command asks for it, so that importing this module reads no environment."""
    if name == "app":
        return _app_of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _app_of_environment() -> Celery:
    settings = ControlSettings()  # type: ignore[call-arg]  # the values come from the environment
    return serve(settings, make_registry(settings))


def _tie_to_workers(process: WorkProcess) -> None:
    """Let `process` live as long as a process of the worker that runs tasks, and begin only after the fork."""

    def start(**_: object) -> None:
        process.start()

    def start_beside_threads(sender: Consumer, **_: object) -> None:
        if isinstance(sender.pool, ThreadPool):
            process.start()

    def close(**_: object) -> None:
        process.close()

    worker_process_init.connect(start, weak=False)  # a child, or the one process of the solo pool
    worker_ready.connect(start_beside_threads, weak=False)
    worker_process_shutdown.connect(close, weak=False)
    worker_shutdown.connect(close, weak=False)


def _configure_logs(settings: ControlSettings) -> None:
    def configure(**_: object) -> None:
        configure_logs(process="celery", level=settings.log_level)
        # Celery's own lines say when it is ready; two more for each tick would say nothing.
        logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def hush_beat(**_: object) -> None:
        logging.getLogger("celery.beat").setLevel(logging.WARNING)

    # With a receiver here Celery leaves logging alone.
    setup_logging.connect(configure, weak=False)
    beat_init.connect(hush_beat, weak=False)
