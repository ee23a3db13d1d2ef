"""Hints by Celery: a thread of the API publishes them, so that a broker that is away holds up no request."""

import queue
import threading
from uuid import UUID

import structlog
from kombu.exceptions import KombuError

from raymart_billing.work.broker import RUN, make_celery

log = structlog.get_logger()

WAITING_MAX = 1_000
"""Hints over this are dropped: the sweeper finds the rows."""
PAUSE_S = 1.0
"""After a failure; what waits meanwhile is dropped too."""
CLOSE_TIMEOUT_S = 5.0
"""A try to connect that is under way takes 2 s."""


class CeleryHints:
    """Publishes a row's id for each hint given. A hint that cannot be sent at once is dropped."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_celery(broker_url)
        # Unlike a worker's, these connections are not patient: what cannot be sent now is dropped.
        self._app.conf.broker_transport_options |= {"max_retries": 1}
        self._waiting: queue.Queue[UUID | None] = queue.Queue(WAITING_MAX)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._publish_all, name="raymart-hints", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def give(self, outbox_id: UUID) -> None:
        """Let a worker look at this row soon, or never. Returns at once."""
        try:
            self._waiting.put_nowait(outbox_id)
        except queue.Full:
            return

    def close(self) -> None:
        """End the thread; hints that wait are dropped."""
        self._ended.set()
        self._drop()
        self._waiting.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        self._app.close()

    def _publish_all(self) -> None:
        while (outbox_id := self._waiting.get()) is not None:
            try:
                self._app.send_task(RUN, args=[str(outbox_id)], retry=False)
            except (OSError, KombuError) as error:
                log.warning("hint.dropped", error=type(error).__name__)
                self._drop()
                if self._ended.wait(PAUSE_S):
                    return

    def _drop(self) -> None:
        while True:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return
