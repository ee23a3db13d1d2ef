"""Checkpoints: about once a second, what each running stream of this gateway would be billed if the gateway died now.

One statement for all streams that moved. The streams are asked, and tell nothing by themselves: a chunk costs nothing.
A stream loses at most what it delivered since its last checkpoint: a period, and the time of one statement.

    period 0.8 s + age 0.3 s + statement  <  2 s
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, Pool
from raymart_billing.records.codec import encode
from raymart_core.ports import RunningRequest

log = structlog.get_logger()

PERIOD_S = 0.8
AGE_S_MIN = 0.3
"""A stream younger than this is left alone: most are over before it would matter."""
WRITE_TIMEOUT_S = 2.0
SLICE = 50
"""Streams that are asked in one go, about 2 ms, before other tasks have their turn."""

_SAVE = b"""
    insert into usage_checkpoint (request_id, gateway_id, record)
    select id, %(gateway_id)s, record from unnest(%(ids)s::uuid[], %(records)s::bytea[]) c (id, record)
     where not exists (select from request r where r.id = c.id)
     order by id
    on conflict (request_id) do update set record = excluded.record, updated_at = clock_timestamp()
"""
_DELETE = b"delete from usage_checkpoint where request_id = any(%(ids)s)"


@dataclass(slots=True)
class _Watched:
    running: RunningRequest
    since: float
    tokens_saved: int = 0
    is_saved: bool = False
    """Whether it has a row in the database, as far as we know."""


class Checkpoints:
    """The running streams of one gateway process."""

    def __init__(self, pool: Pool, *, gateway_id: UUID, period_s: float = PERIOD_S) -> None:
        self._pool = pool
        self._gateway_id = gateway_id
        self._period_s = period_s
        self._watched: dict[UUID, _Watched] = {}
        self._stale: set[UUID] = set()
        """Those whose row must go without a record taking its place."""

    def watch(self, running: RunningRequest) -> None:
        """Checkpoint `running` until `settle` is called with its id."""
        self._watched[running.id] = _Watched(running, asyncio.get_running_loop().time())

    def settle(self, request_id: UUID) -> bool:
        """Its record is on its way; returns whether it has a checkpoint to delete with it."""
        if not self._watched:  # Nobody streams.
            return False
        watched = self._watched.pop(request_id, None)
        return watched is not None and watched.is_saved

    def disown(self, request_id: UUID) -> None:
        """It had a checkpoint, and its record was refused: nothing was promised, so nothing may be billed."""
        self._stale.add(request_id)

    async def run(self) -> None:
        """Write checkpoints until cancelled. While the database is away there are none."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self._save_moved()
            except OUTAGE as error:
                log.warning("checkpoint.skipped", streams=len(self._watched), error=type(error).__name__)
            except Exception:
                log.exception("checkpoint.failed", streams=len(self._watched))

    async def _save_moved(self) -> None:
        moved = await self._moved()
        stale = tuple(self._stale)
        if not moved and not stale:
            return
        async with (
            asyncio.timeout(WRITE_TIMEOUT_S),
            self._pool.connection(min(ACQUIRE_TIMEOUT_S, WRITE_TIMEOUT_S)) as connection,
        ):
            if moved:
                # Before the write: a record that comes meanwhile must delete what we may have written. Where its commit
                # and our write miss each other, the row stays until the sweeper sees that the request is recorded.
                for request_id, _, _ in moved:
                    if (watched := self._watched.get(request_id)) is not None:
                        watched.is_saved = True
                ids, records, _ = zip(*moved, strict=True)
                values = {"gateway_id": self._gateway_id, "ids": list(ids), "records": list(records)}
                await connection.execute(_SAVE, values)
            if stale:
                await connection.execute(_DELETE, {"ids": list(stale)})
        self._stale.difference_update(stale)
        for request_id, _, tokens in moved:
            if request_id in self._watched:
                self._watched[request_id].tokens_saved = tokens

    async def _moved(self) -> Sequence[tuple[UUID, bytes, int]]:
        """(id, record, tokens) of each stream that is old enough and has delivered since its last checkpoint."""
        born_before = asyncio.get_running_loop().time() - AGE_S_MIN
        moved = []
        for number, watched in enumerate(tuple(self._watched.values())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            tokens = watched.running.tokens_delivered
            if watched.since > born_before or tokens == watched.tokens_saved:
                continue
            if (record := watched.running.if_lost()) is not None:
                moved.append((record.id, encode(record), tokens))
        return moved
