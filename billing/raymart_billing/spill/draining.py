"""Draining: what was spilled comes into PostgreSQL, each record once, by whichever process is first.

A record leaves its place only after the commit of its rows. A drain that dies in between leaves a copy behind, which the
next drain finds recorded already; so does the second copy of a record that is both in the stream and in a file.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from raymart_billing.connections import OUTAGE, Connection, scalar
from raymart_billing.records.models import RecordOrigin
from raymart_billing.records.restoring import Restored, restore, set_aside
from raymart_billing.spill.journal import claimed, read_segment, segments
from raymart_billing.spill.stream import REDIS_AWAY, SpillStream
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

BATCH_MAX = 500
_STREAM_LOCK = 7_240_006
"""Advisory lock: one process at a time drains the stream, so that its batches do not collide."""


def _ignore(_requests: Sequence[FinishedRequest]) -> None:
    """What a sweeper does with drained requests: the next step of its sweep finds them by their rows."""


@dataclass(slots=True)
class Drained:
    """How many records a drain took out of their places."""

    recorded: int = 0
    """In their tables now; some may have been there before."""
    set_aside: int = 0


async def drain(
    connection: Connection,
    *,
    directory: Path | None,
    stream: SpillStream | None,
    on_recorded: Callable[[Sequence[FinishedRequest]], None] = _ignore,
) -> Drained:
    """Bring everything that was spilled to `directory` and `stream` into its tables; `on_recorded` hears each batch.

    Files of living processes and what another process drains at this moment are passed over. A Redis that is away is
    left for the next time. Raises: those of `OUTAGE`; then nothing is lost and the next drain goes on.
    """
    drained = Drained()

    def add(part: Restored) -> None:
        drained.recorded += len(part.requests)
        drained.set_aside += part.set_aside
        on_recorded(part.requests)

    if directory is not None:
        for path in segments(directory):
            await _drain_segment(connection, path, add)
    if stream is not None:
        try:
            await _drain_stream(connection, stream, add)
        except REDIS_AWAY as error:
            log.warning("spill.stream_left", error=type(error).__name__)
    if drained.recorded or drained.set_aside:
        log.warning("usage.drained", records=drained.recorded, set_aside=drained.set_aside)
    return drained


async def _drain_segment(connection: Connection, path: Path, add: Callable[[Restored], None]) -> None:
    with claimed(path) as is_ours:
        if not is_ours:
            return
        # Read whole: it is 8 MB at most, from the page cache mostly.
        frames = list(read_segment(path))
        for frame in frames:
            if not frame.is_sound:
                reason = f"damaged bytes in {path.name}"
                await set_aside(connection, frame.content, origin=RecordOrigin.FILE, reason=reason)
                add(Restored(set_aside=1))
        records = [frame.content for frame in frames if frame.is_sound]
        for batch in _batches(records):
            add(await restore(connection, batch, origin=RecordOrigin.FILE))
        await asyncio.to_thread(path.unlink)


async def _drain_stream(connection: Connection, stream: SpillStream, add: Callable[[Restored], None]) -> None:
    if not await stream.length():
        return
    async with _alone(connection) as is_alone:
        while is_alone and (entries := await stream.read(BATCH_MAX)):
            add(await restore(connection, [record for _, record in entries], origin=RecordOrigin.STREAM))
            await stream.remove([entry_id for entry_id, _ in entries])


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[bool]:
    """Whether this process may drain the stream; the lock ends with the block or the connection."""
    key = {"key": _STREAM_LOCK}
    locked = await scalar(connection, b"select pg_try_advisory_lock(%(key)s)", key)
    try:
        yield locked
    finally:
        if locked:
            with contextlib.suppress(*OUTAGE):  # A lost connection has let go already.
                await connection.execute(b"select pg_advisory_unlock(%(key)s)", key)


def _batches(records: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
    return [records[start : start + BATCH_MAX] for start in range(0, len(records), BATCH_MAX)]
