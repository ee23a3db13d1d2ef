"""The Celery application: `celery -A raymart_billing.celery_app worker`, and the same with `beat`.

Delivery is at least once and may be never: Redis loses a message when a worker dies at the wrong moment, and brings it
back twice when a task outlives `visibility_timeout`. The tasks are made for that (`raymart_billing.tasks`).
"""

import logging
from functools import cache

from celery import Celery
from celery.signals import beat_init, setup_logging

from raymart_billing.tasks import SWEEP, SWEEP_TIMEOUT_S, register_tasks
from raymart_core.logs import configure_logs
from raymart_marketplace.settings import ControlSettings

TASK_TIME_LIMIT_S = int(SWEEP_TIMEOUT_S) + 15
"""When the worker kills a task that did not end by itself."""
VISIBILITY_TIMEOUT_S = 2 * TASK_TIME_LIMIT_S
"""When Redis hands out a message again whose worker died: only after any worker would have killed its task."""


def create_celery(settings: ControlSettings) -> Celery:
    """An application on the broker of `settings`, with its tasks and the beat's schedule."""
    app = Celery("raymart", broker=settings.broker_url)
    app.conf.update(
        # A message is done when its task is done, also when the worker dies with it.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_time_limit=TASK_TIME_LIMIT_S,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # Sweeps are light and take turns; more workers would wait for each other's locks.
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        # kombu's own defaults look for lost messages every 100 s only (10 s interval, each 10th time).
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
        # In memory: a schedule file would only remember when the last sweep was, and one is always welcome.
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=settings.sweep_interval_s,
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_interval_s,
                # Hints that piled up while no worker ran are worth one sweep, not hundreds.
                "options": {"expires": 2 * settings.sweep_interval_s},
            }
        },
    )
    register_tasks(app, settings)
    return app


def __getattr__(name: str) -> Celery:
    """`app`, made when the `celery` command asks for it, so that importing this module reads no environment."""
    if name == "app":
        return _app_of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _app_of_environment() -> Celery:
    settings = ControlSettings()  # type: ignore[call-arg]  # the values come from the environment

    def configure(**_: object) -> None:
        configure_logs(process="celery", level=settings.log_level)
        # Celery's own lines say when it is ready; two more for each sweep would say nothing.
        logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def hush_beat(**_: object) -> None:
        logging.getLogger("celery.beat").setLevel(logging.WARNING)

    # With a receiver here Celery leaves logging alone.
    setup_logging.connect(configure, weak=False)
    beat_init.connect(hush_beat, weak=False)
    return create_celery(settings)
