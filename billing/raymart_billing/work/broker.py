"""Celery on Redis or RabbitMQ, set so that a broker that was away is back in use within seconds.

Redis is the embedded default. For production: RabbitMQ with quorum queues and publisher confirms (`BROKER_URL=amqp://...`).
"""

from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError

RECONNECT_S_MAX = 2.0
"""Longest pause between two tries to connect. kombu's own pauses grow to 30 s."""
QUEUE = "raymart.work"
TICK = "work.tick"
"""The sweeper: run whatever is due. Beat asks for it every few seconds."""
RUN = "work.run"
"""A hint: the outbox row with this id was committed just now."""
HINTS_MAX = 10_000
"""RabbitMQ keeps this many and drops the oldest: a hint is worth nothing once the sweeper has looked."""


class PatientConnection(Connection):
    """A connection that tries again every two seconds for as long as it takes."""

    def _ensure_connection(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        options.update(interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_S_MAX)
        return super()._ensure_connection(*arguments, **options)  # type: ignore[no-untyped-call]  # kombu's own


class PatientAMQP(AMQP):  # type: ignore[misc]  # Celery has no types
    """Celery's connections are patient ones."""

    Connection = PatientConnection


def make_celery(broker_url: str, *, task_time_limit_s: int = 300) -> Celery:
    """An application without tasks on the broker of `broker_url`."""
    app = Celery("raymart", broker=broker_url, amqp=PatientAMQP)
    app.conf.update(
        # A message is done when its task is done, also when the worker dies with it.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=task_time_limit_s,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_consumer="raymart_billing.work.consumer:WorkConsumer",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4.0,
        **(_on_rabbitmq() if broker_url.startswith("amqp") else _on_redis(2 * task_time_limit_s)),
    )
    return app


def _on_redis(visibility_timeout_s: int) -> dict[str, object]:
    return {
        "broker_transport_options": {
            # Redis hands out a message again that is not acknowledged by then: after any worker has killed its task.
            "visibility_timeout": visibility_timeout_s,
            # kombu's own defaults look for lost messages every 100 s only (10 s interval, each 10th time).
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 4.0,
        }
    }


def _on_rabbitmq() -> dict[str, object]:
    arguments = {"x-queue-type": "quorum", "x-max-length": HINTS_MAX}
    queue = Queue(QUEUE, routing_key=QUEUE, queue_arguments=arguments)  # type: ignore[no-untyped-call]  # kombu's own
    return {
        # Replicated and on disk, so that a node of the broker may go.
        "task_queues": [queue],
        "worker_detect_quorum_queues": True,
        # A publish returns once the broker has it.
        "broker_transport_options": {"confirm_publish": True},
    }


def reach_broker(url: str, *, timeout_s: float) -> None:
    """Connect to the broker once, from a thread of one's own.

    Raises: OSError when it does not answer within about `timeout_s`.
    """
    try:
        with Connection(url, connect_timeout=timeout_s) as connection:  # type: ignore[no-untyped-call]  # kombu has no types
            connection.ensure_connection(max_retries=1, timeout=timeout_s)
    except KombuError as error:
        raise ConnectionError(str(error)) from error
