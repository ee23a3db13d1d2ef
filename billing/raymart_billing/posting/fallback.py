"""What the usage sink does while PostgreSQL is away: spill, look whether it is back, drain."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, Pool
from raymart_billing.spill import Spill, SpillFailed, drain
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

SPILL_AFTER_S = 1.0
"""How long a batch insists on PostgreSQL before it is spilled: a restart of a second needs no spill."""
PROBE_PAUSE_S = 0.25
PROBE_TIMEOUT_S = 2.0


class Fallback:
    """Remembers whether PostgreSQL is away, keeps records meanwhile, and brings them in when it is back.

    `run` is the task that does the second half. It drains once at its start too: a process before this one may have died
    with spilled records on this machine.
    """

    def __init__(self, pool: Pool, spill: Spill) -> None:
        self._pool = pool
        self._spill = spill
        self._is_away = False
        self._work = asyncio.Event()
        self._work.set()

    @property
    def is_away(self) -> bool:
        """Whether to spill without asking PostgreSQL first."""
        return self._is_away

    def database_went_away(self) -> None:
        """A batch has insisted long enough."""
        if not self._is_away:
            log.error("usage.database_away")
            self._is_away = True
        self._work.set()

    async def keep(self, requests: Sequence[FinishedRequest]) -> bool:
        """Whether `requests` are durable outside PostgreSQL now."""
        try:
            await self._spill.keep(requests)
        except SpillFailed as error:
            log.error("usage.spill_failed", records=len(requests), error=str(error))  # noqa: TRY400 - it says all
            return False
        self._work.set()
        return True

    async def run(self, on_recorded: Callable[[Sequence[FinishedRequest]], None]) -> None:
        """Drain whenever there may be something, once PostgreSQL answers; `on_recorded` hears what came in."""
        while True:
            await self._work.wait()
            self._work.clear()
            if not await self._drained(on_recorded):
                self._work.set()
                await asyncio.sleep(PROBE_PAUSE_S)

    async def _drained(self, on_recorded: Callable[[Sequence[FinishedRequest]], None]) -> bool:
        try:
            async with self._pool.connection(ACQUIRE_TIMEOUT_S) as connection:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await connection.execute(b"select 1")
                if self._is_away:
                    log.warning("usage.database_back")
                # First this, then the file: whatever is written from now on goes to PostgreSQL or to a new file.
                self._is_away = False
                await self._spill.seal()
                await drain(
                    connection,
                    directory=self._spill.directory,
                    stream=self._spill.stream,
                    on_recorded=on_recorded,
                )
        except OUTAGE as error:
            log.info("usage.drain_waits", error=type(error).__name__)
            return False
        except Exception:
            # Such as a directory that cannot be read; the next outage, and the sweeper, try again.
            log.exception("usage.drain_failed")
        return True
