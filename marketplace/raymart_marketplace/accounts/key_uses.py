"""When each API key was last used: noted in memory on the hot path, written in batches beside it.

A key's row is written at most once a minute, however many processes serve it and however busy it is, so the time shown
is up to `WRITE_EVERY_S` plus a minute old. Not guaranteed: what a process noted since its last batch is lost with it.
"""

import asyncio
import contextlib
from uuid import UUID

import structlog
from sqlalchemy import func, or_, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 30.0
WRITE_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
"""What the last batch gets while the process shuts down."""
BATCH_MAX = 1_000
"""Keys of one statement."""
NOTED_MAX = 100_000
"""Keys that one process remembers between two batches; further ones wait for the next."""


class KeyUses:
    """The keys used since the last batch. For one event loop."""

    def __init__(self) -> None:
        self._noted: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, api_key_id: UUID) -> None:
        """Remember that the key was used just now; under a microsecond."""
        if len(self._noted) < NOTED_MAX:
            self._noted.add(api_key_id)

    def take(self) -> list[UUID]:
        """What was noted, which begins anew; in the order of the ids, so that two writers lock alike."""
        noted, self._noted = self._noted, set()
        return sorted(noted)


class KeyUseWriter:
    """Writes what `uses` notes, until it is stopped. One per process."""

    def __init__(self, sessions: Sessions, uses: KeyUses, *, write_every_s: float = WRITE_EVERY_S) -> None:
        self._sessions = sessions
        self._uses = uses
        self._write_every_s = write_every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, and write what is still noted."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.write()

    async def write(self) -> None:
        """Write what was noted; while the database is away, note it again."""
        noted = self._uses.take()
        for start in range(0, len(noted), BATCH_MAX):
            batch = noted[start : start + BATCH_MAX]
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._write(batch)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("key_uses.unwritten", keys=len(noted) - start, error=type(error).__name__)
                for api_key_id in noted[start:]:
                    self._uses.note(api_key_id)
                return

    async def _write(self, batch: list[UUID]) -> None:
        """Mark the keys of `batch` that were not marked within the last minute."""
        minute_ago = func.clock_timestamp() - text("interval '1 minute'")
        due = (
            select(ApiKey.id)
            .where(ApiKey.id.in_(batch), or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < minute_ago))
            .order_by(ApiKey.id)
            # Whoever changes the key right now is worth more than this mark.
            .with_for_update(key_share=True, skip_locked=True)
        )
        statement = update(ApiKey).where(ApiKey.id.in_(due)).values(last_used_at=func.clock_timestamp())
        async with session_scope(self._sessions) as session:
            await session.execute(statement.execution_options(synchronize_session=False))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._write_every_s)
            await self.write()
