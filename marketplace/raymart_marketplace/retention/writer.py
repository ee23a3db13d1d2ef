"""Stores what was said beside the requests, and rather drops it than hold one up."""

import asyncio
import contextlib

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.retention.exchange import Ended
from raymart_marketplace.retention.service import store

log = structlog.get_logger(__name__)

WAITING_MAX = 1_000
"""Exchanges that wait; one more is dropped."""
WAITING_CHARACTERS_MAX = 32_000_000
"""And all their text."""
BATCH_MAX = 50
STORE_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
"""What still waits is stored within this at shutdown, or dropped."""


class RetentionWriter:
    """Seals and stores exchanges, a batch at a time. One per process; for one event loop.

    Not guaranteed: what waits while the database is away, or when there is too much of it, is dropped and counted.
    """

    def __init__(self, sessions: Sessions, box: SecretBox) -> None:
        self._sessions = sessions
        self._box = box
        self._waiting: asyncio.Queue[Ended] = asyncio.Queue(WAITING_MAX)
        self._waiting_characters = 0
        self._task: asyncio.Task[None] | None = None
        self.stored = 0
        """Exchanges stored since the start."""
        self.dropped = 0
        """Exchanges that were to be stored and are not."""

    def keep(self, ended: Ended) -> None:
        """Store it soon, or drop it. Returns at once."""
        if self._waiting.full() or self._waiting_characters + ended.size > WAITING_CHARACTERS_MAX:
            self.dropped += 1
            return
        self._waiting.put_nowait(ended)
        self._waiting_characters += ended.size

    def start(self) -> None:
        """Begin to store."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Store what waits, for a moment, and end."""
        assert self._task is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.settle()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.dropped += self._waiting.qsize()

    async def settle(self) -> None:
        """Return when nothing waits any more."""
        await self._waiting.join()

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._store(batch)

    async def _store(self, batch: list[Ended]) -> None:
        """Store them, or let them go: to try again would let the others wait."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), session_scope(self._sessions) as session:
                stored = await store(session, batch, self._box)
            self.stored += stored
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self.dropped += len(batch)
            # Only the kind: a database's own words may show the parameters.
            log.warning("retention.dropped", exchanges=len(batch), error=type(error).__name__)
        finally:
            for ended in batch:
                self._waiting.task_done()
                self._waiting_characters -= ended.size
