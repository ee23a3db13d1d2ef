"""Hints by Celery: a thread of the API publishes them, so that a broker that is away holds up no request."""

import queue
import threading
from uuid import UUID

import structlog

log = structlog.get_logger()

WAITING_MAX = 1_000
"""Hints over this are dropped: the sweeper finds the rows."""
PAUSE_S = 1.0
"""After a failure; what waits meanwhile is dropped too."""
CLOSE_TIMEOUT_S = 10.0
"""A try to connect that is under way takes 2 s; on a busy machine what the first hint imports takes some, too."""


class CeleryHints:
    """Publishes a row's id for each hint given. A hint that cannot be sent at once is dropped."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
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

    def _publish_all(self) -> None:
        outbox_id = self._waiting.get()
        if outbox_id is None:
            return
        # 10 MB that a process needs which asks for work, and a gateway may never.
        from kombu.exceptions import KombuError  # noqa: PLC0415

        from raymart_billing.work.broker import RUN, make_celery  # noqa: PLC0415

        with make_celery(self._broker_url) as app:
            # Unlike a worker's, these connections are not patient: what cannot be sent now is dropped.
            app.conf.broker_transport_options |= {"max_retries": 1}
            while outbox_id is not None:
                try:
                    app.send_task(RUN, args=[str(outbox_id)], retry=False)
                except (OSError, KombuError) as error:
                    log.warning("hint.dropped", error=type(error).__name__)
                    self._drop()
                    if self._ended.wait(PAUSE_S):
                        return
                outbox_id = self._waiting.get()

    def _drop(self) -> None:
        while True:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return
