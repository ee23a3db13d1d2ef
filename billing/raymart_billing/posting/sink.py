"""The usage sink: a finished request is durable before its final byte, and posted a moment later.

Natural batching: while one batch commits, the requests that finish meanwhile gather for the next. Alone, a request waits
for one commit; under load, many share one. To the gateway a request costs its part of one statement, and one future.

Writer and poster run side by side, so that nobody's final byte waits for the ledger:

    record() -> writer: one statement, committed -> caller may send its final byte
                  |            `-> poster: what was used into the ledger
                  `-> PostgreSQL away: spill -> caller may send its final byte; drained and posted on its return

Running streams are checkpointed beside (`checkpoints`), so that a process that dies loses at most their last 2 s.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Coroutine, Sequence
from uuid import UUID

import structlog

from raymart_billing.connections import Pool
from raymart_billing.holds import NoSettlements, Settlements
from raymart_billing.posting.checkpoints import PERIOD_S, Checkpoints
from raymart_billing.posting.fallback import Fallback
from raymart_billing.posting.gathering import Gathering
from raymart_billing.posting.poster import UsagePoster
from raymart_billing.posting.writer import BATCH_MAX, PACE_EACH_S, PACE_S, RecordWriter, Waiting, unavailable
from raymart_billing.records import encode_for_batch
from raymart_billing.spill import Spill
from raymart_core.ports import FinishedRequest, RunningRequest

log = structlog.get_logger()

QUEUE_MAX = 10_000
"""Finished requests that may wait for the writer, about 20 MB; beyond, `record` refuses at once."""
POSTS_MAX = 1_000
"""Batches of records that may wait for the poster; the sweeper finds the rest."""
STOP_TIMEOUT_S = 20.0


class LedgerUsageSink:
    """Implements `core.ports.UsageSink`. Start it before the gateway takes requests, stop it after the last.

    Uses up to four connections of `pool` at once. Without `spill`, an outage that lasts ends in Unavailable.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        record_timeout_s: float,
        gateway_id: UUID | None = None,
        spill: Spill | None = None,
        settlements: Settlements | None = None,
        on_posted: Callable[[Collection[UUID]], None] = lambda _customers: None,
        queue_max: int = QUEUE_MAX,
        checkpoint_period_s: float = PERIOD_S,
    ) -> None:
        """`gateway_id`: this process as `gateway_is_alive` knows it; without one, streams are not checkpointed.

        `settlements` hears of each request once it is durable, and of each lease that was posted from; `on_posted` of the
        customers whose usage the ledger has taken. It must not raise.
        """
        self._settlements = settlements or NoSettlements()
        self._fallback = None if spill is None else Fallback(pool, spill)
        self._checkpoints = (
            None
            if gateway_id is None
            else Checkpoints(pool, gateway_id=gateway_id, period_s=checkpoint_period_s)
        )
        self._record_timeout_s = record_timeout_s
        self._records: Gathering[Waiting] = Gathering(
            items_max=queue_max, batch_max=BATCH_MAX, pace_s=PACE_S, pace_each_s=PACE_EACH_S
        )
        self._poster = UsagePoster(pool, self._settlements, on_posted=on_posted, batches_max=POSTS_MAX)
        self._writer = RecordWriter(
            pool,
            self._records,
            fallback=self._fallback,
            on_durable=self._settle,
            on_committed=self._poster.committed,
        )
        self._writing: asyncio.Task[None] | None = None
        self._posting: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._is_open = False

    async def start(self) -> None:
        """Begin to write and post; once."""
        assert self._writing is None, "started twice"
        self._writing = asyncio.create_task(self._writer.run(), name="usage-writer")
        self._posting = asyncio.create_task(self._poster.run(), name="usage-poster")
        self._run_beside(self._refuse_overdue(), name="usage-deadlines")
        if self._checkpoints is not None:
            self._run_beside(self._checkpoints.run(), name="usage-checkpoints")
        if self._fallback is not None:
            self._run_beside(self._fallback.run(self._poster.committed), name="usage-drain")
        self._is_open = True

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Refuse new records, write and post those at hand, and end; what is left after `timeout_s` is refused."""
        if not self._is_open or self._writing is None or self._posting is None:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(timeout_s):
                self._records.close()
                await asyncio.shield(self._writing)
                self._poster.close()
                await asyncio.shield(self._posting)
        except TimeoutError:
            log.warning("usage.stopped_early", records=len(self._records), posts=len(self._poster))
        tasks = (self._writing, self._posting, *self._beside)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in self._records:
            waiting.fail(unavailable(waiting.request, "the process is stopping"))

    def watch(self, running: RunningRequest) -> None:
        """Checkpoint `running` about once a second until its `record` is called."""
        if self._is_open and self._checkpoints is not None:
            self._checkpoints.watch(running)

    async def record(self, request: FinishedRequest) -> None:
        """Return when `request`, its attempts and its usage are committed, or spilled while PostgreSQL is away.

        A repeat of the same id is a no-op.

        A caller that is cancelled while it waits does not take its record along: it is written all the same. After
        Unavailable it is withdrawn, unless its commit was under way at that moment; what was not recorded is not
        billed, and its hold ends by its TTL.
        Raises: Unavailable after `record_timeout_s`, at once when the queue is full or the sink stopped.
        """
        has_checkpoint = self._checkpoints is not None and self._checkpoints.settle(request.id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._record_timeout_s
        waiting = Waiting(request, encode_for_batch(request), has_checkpoint, deadline, loop.create_future())
        try:
            if not self._is_open:
                raise unavailable(request, "the usage sink is not running")
            if not self._records.put(waiting):
                raise unavailable(request, f"{len(self._records)} records are waiting already")
            await waiting.done
        except Exception:
            if self._checkpoints is not None and has_checkpoint:
                self._checkpoints.disown(request.id)
            raise

    def _settle(self, requests: Sequence[FinishedRequest]) -> None:
        for request in requests:
            if request.usage is None:
                self._settlements.released(request.id)
            else:
                self._settlements.settled(request.id, request.charge)

    async def _refuse_overdue(self) -> None:
        """Withdraw what waits longer than it may. One task for all: a timer for each would cost more than its record."""
        clock = asyncio.get_running_loop()
        while True:
            waiting = itertools.chain(self._writer.batch, self._records)
            oldest = next((one for one in waiting if not one.done.done()), None)
            # Whoever comes while this sleeps is not due before it wakes.
            await asyncio.sleep(
                self._record_timeout_s if oldest is None else max(oldest.deadline - clock.time(), 0.0)
            )
            now = clock.time()
            for one in itertools.chain(self._writer.batch, self._records):
                if one.deadline <= now and not one.done.done():
                    one.fail(unavailable(one.request, f"no commit within {self._record_timeout_s:g} s"))

    def _run_beside(self, work: Coroutine[None, None, None], *, name: str) -> None:
        self._beside.append(asyncio.create_task(work, name=name))
