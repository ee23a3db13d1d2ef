"""Where finished requests go while PostgreSQL is away: a Redis stream and a file on this machine, both at once."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from raymart_billing.records.codec import encode
from raymart_billing.spill.journal import Journal, JournalFull
from raymart_billing.spill.stream import REDIS_AWAY, SpillStream, StreamRefused
from raymart_core.errors import RaymartError
from raymart_core.ports import FinishedRequest
from raymart_marketplace.settings import ControlSettings

log = structlog.get_logger()

FILE_TIMEOUT_S = 2.0
"""How long one group's write and fsync may take before the file does not count for it."""


class SpillFailed(RaymartError):
    """Neither place took the records."""


class Spill:
    """Keeps records until `drain` has brought them into PostgreSQL. One writer at a time; `aclose` it.

    Both places are written, because they fail differently: the file is lost with its machine, the stream with Redis.
    One durable copy is enough to acknowledge a record; two copies of a record are billed once.
    """

    def __init__(self, *, journal: Journal | None, stream: SpillStream | None) -> None:
        self._journal = journal
        self.stream = stream
        # One thread: a disk that hangs must hang one fsync, not the event loop and not a queue of them.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="usage-spill")
        self._writing: Future[None] | None = None

    @property
    def directory(self) -> Path | None:
        """Where the files are."""
        return None if self._journal is None else self._journal.directory

    async def keep(self, requests: Sequence[FinishedRequest]) -> None:
        """Return when each of `requests` is durable in one place at least. Raises: SpillFailed; then none counts."""
        records = [encode(request) for request in requests]
        in_stream, in_file = await asyncio.gather(self._to_stream(records), self._to_file(records))
        if not (in_stream or in_file):
            raise SpillFailed("neither the Redis stream nor the file of spilled usage took the records")
        log.warning("usage.spilled", records=len(records), in_stream=in_stream, in_file=in_file)

    async def seal(self) -> None:
        """Let go of this process's file, so that it can be drained."""
        if self._journal is not None and (self._writing is None or self._writing.done()):
            self._writing = self._disk.submit(self._journal.seal)
            await asyncio.wait_for(asyncio.wrap_future(self._writing), FILE_TIMEOUT_S)

    async def aclose(self) -> None:
        """Close the file and the connections; what was kept stays."""
        if self._journal is not None and (self._writing is None or self._writing.done()):
            self._journal.seal()
        self._disk.shutdown(wait=False)
        if self.stream is not None:
            await self.stream.aclose()

    async def _to_stream(self, records: Sequence[bytes]) -> bool:
        if self.stream is None:
            return False
        try:
            await self.stream.append(records)
        except (*REDIS_AWAY, StreamRefused) as error:
            log.warning("spill.stream_failed", error=f"{type(error).__name__}: {error}"[:200])
            return False
        return True

    async def _to_file(self, records: Sequence[bytes]) -> bool:
        if self._journal is None:
            return False
        if self._writing is not None and not self._writing.done():
            log.warning("spill.file_failed", error="the last write has not returned")
            return False
        self._writing = self._disk.submit(self._journal.append, records)
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._writing)), FILE_TIMEOUT_S)
        except (OSError, JournalFull) as error:  # A TimeoutError is an OSError.
            log.warning("spill.file_failed", error=f"{type(error).__name__}: {error}"[:200])
            return False
        return True


def make_spill(settings: ControlSettings) -> Spill:
    """The two places of `settings`. Opens nothing."""
    directory = settings.spill_dir
    journal = None if directory is None else Journal(directory, bytes_max=settings.spill_bytes_max)
    return Spill(journal=journal, stream=SpillStream(settings.redis_url))
