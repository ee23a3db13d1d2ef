"""The usage sink: one group-committed write per batch of finished requests, then their capture.

Natural batching: while one transaction commits, the requests that finish meanwhile gather for the next. Alone, a request
waits for one commit; under load, a thousand share one. There is no timer and no window to tune.

Writer and poster run side by side, so that nobody's final byte waits for the ledger:

    record() -> queue -> writer: COPY, COMMIT -> caller may send its final byte
                     |        `-> queue -> poster: capture the usage, void the holds of those that used nothing
                     `-> PostgreSQL away: spill -> caller may send its final byte; drained and posted on its return

Running streams are checkpointed beside (`checkpoints`), so that a process that dies loses at most their last 2 s.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, Pauses, Pool, end_if_cancelled
from raymart_billing.holds import NoSettlements, Settlements, release_holds
from raymart_billing.posting.checkpoints import PERIOD_S, Checkpoints
from raymart_billing.posting.fallback import SPILL_AFTER_S, Fallback
from raymart_billing.posting.post import USAGES_PER_POST_MAX, post_requests
from raymart_billing.records.copying import copy_requests
from raymart_billing.spill import Spill
from raymart_core.errors import Unavailable
from raymart_core.ids import Prefix, show
from raymart_core.ports import FinishedRequest, RunningRequest

log = structlog.get_logger()
T = TypeVar("T")

QUEUE_MAX = 10_000
"""Finished requests that may wait for the writer, about 20 MB; beyond, `record` refuses at once."""
BATCH_MAX = 1_000
WRITE_TIMEOUT_S = 10.0
"""One try of a batch; a server that accepts and then says nothing is an outage too."""
SPILL_WRITE_TIMEOUT_S = 4.0
"""The same where there is somewhere else to keep the batch."""
STOP_TIMEOUT_S = 20.0
POST_TRIES_MAX = 5
"""Tries of the poster before it leaves a batch to the sweeper."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A finished request and who waits for it. A `done` that is over before the write withdraws the request."""

    request: FinishedRequest
    done: asyncio.Future[None]
    has_checkpoint: bool


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
        queue_max: int = QUEUE_MAX,
        checkpoint_period_s: float = PERIOD_S,
    ) -> None:
        """`gateway_id`: this process as `gateway_is_alive` knows it; without one, streams are not checkpointed.

        `settlements` hears of each request once it is durable, and of each lease that was posted from.
        """
        self._pool = pool
        self._settlements = settlements or NoSettlements()
        self._fallback = None if spill is None else Fallback(pool, spill)
        self._checkpoints = (
            None
            if gateway_id is None
            else Checkpoints(pool, gateway_id=gateway_id, period_s=checkpoint_period_s)
        )
        self._record_timeout_s = record_timeout_s
        self._records: asyncio.Queue[_Waiting | None] = asyncio.Queue(queue_max)
        self._posts: asyncio.Queue[FinishedRequest | None] = asyncio.Queue(queue_max)
        self._writer: asyncio.Task[None] | None = None
        self._poster: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._is_open = False

    async def start(self) -> None:
        """Begin to write and post."""
        assert self._writer is None, "started twice"
        self._writer = asyncio.create_task(self._write_batches(), name="usage-writer")
        self._poster = asyncio.create_task(self._post_batches(), name="usage-poster")
        if self._checkpoints is not None:
            self._beside.append(asyncio.create_task(self._checkpoints.run(), name="usage-checkpoints"))
        if self._fallback is not None:
            drains = self._fallback.run(self._to_poster)
            self._beside.append(asyncio.create_task(drains, name="usage-drain"))
        self._is_open = True

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Refuse new records, write and post those at hand, and end; what is left after `timeout_s` is refused."""
        if self._writer is None or self._poster is None:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._records.put(None)
                await asyncio.shield(self._writer)
                await self._posts.put(None)
                await asyncio.shield(self._poster)
        except TimeoutError:
            log.warning("usage.stopped_early", records=self._records.qsize(), posts=self._posts.qsize())
        tasks = (self._writer, self._poster, *self._beside)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer = self._poster = None
        self._beside.clear()
        left = [self._records.get_nowait() for _ in range(self._records.qsize())]
        _refuse([waiting for waiting in left if waiting is not None], "the process is stopping")

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
        try:
            await self._record(request, has_checkpoint=has_checkpoint)
        except Exception:
            if self._checkpoints is not None and has_checkpoint:
                self._checkpoints.disown(request.id)
            raise

    async def _record(self, request: FinishedRequest, *, has_checkpoint: bool) -> None:
        if not self._is_open:
            raise _unavailable(request, "the usage sink is not running")
        waiting = _Waiting(request, asyncio.get_running_loop().create_future(), has_checkpoint)
        # A failure that nobody is left to hear was logged by the writer.
        waiting.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            self._records.put_nowait(waiting)
        except asyncio.QueueFull:
            raise _unavailable(request, f"{self._records.maxsize} records are waiting already") from None
        try:
            async with asyncio.timeout(self._record_timeout_s):
                await asyncio.shield(waiting.done)
        except TimeoutError:
            if not waiting.done.cancel():
                return waiting.done.result()  # It was committed, or refused, at the last moment.
            raise _unavailable(request, f"no commit within {self._record_timeout_s:g} s") from None

    async def _write_batches(self) -> None:
        while batch := await _gather(self._records, BATCH_MAX):
            try:
                await self._write(batch, may_exist=False)
            finally:
                # Nobody waits for a writer that was cancelled.
                _refuse(batch, "the process is stopping")

    async def _write(self, batch: Sequence[_Waiting], *, may_exist: bool) -> None:
        """Write `batch` whole, waiting out outages; when the database refuses it, by halves down to the culprit."""
        pauses = Pauses()
        clock = asyncio.get_running_loop()
        begun = clock.time()
        while waiting := _waiting(batch):
            if await self._spilled(waiting):
                return
            try:
                written = await self._copy(waiting, may_exist=may_exist)
            except OUTAGE as error:
                log.warning("usage.write_retried", records=len(waiting), error=type(error).__name__)
                if self._fallback is not None and clock.time() - begun >= SPILL_AFTER_S:
                    self._fallback.database_went_away()
                else:
                    await pauses.rest()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one record must not stop the writer
                if may_exist or not isinstance(error, psycopg.errors.UniqueViolation):
                    await self._split(waiting, error)
                    return
                # An id was recorded before: the next try looks which.
            else:
                self._acknowledge(written)
                return
            may_exist = True

    async def _copy(self, batch: Sequence[_Waiting], *, may_exist: bool) -> Sequence[_Waiting]:
        """Write those of `batch` that are still waited for once there is a connection; returns them."""
        timeout_s, acquire_s = WRITE_TIMEOUT_S, ACQUIRE_TIMEOUT_S
        if self._fallback is not None:
            timeout_s, acquire_s = SPILL_WRITE_TIMEOUT_S, SPILL_AFTER_S
        async with asyncio.timeout(timeout_s), self._pool.connection(acquire_s) as connection:
            written = _waiting(batch)
            await copy_requests(
                connection,
                [waiting.request for waiting in written],
                may_exist=may_exist,
                forget_checkpoints=any(waiting.has_checkpoint for waiting in written),
            )
            return written

    async def _spilled(self, batch: Sequence[_Waiting]) -> bool:
        """While PostgreSQL is away, keep `batch` elsewhere; false when it is not, or nothing else takes them either."""
        if self._fallback is None or not self._fallback.is_away:
            return False
        if not await self._fallback.keep([waiting.request for waiting in batch]):
            return False
        self._answer(batch)
        return True

    async def _split(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle], may_exist=True)
            await self._write(batch[middle:], may_exist=True)
            return
        [culprit] = batch
        log.error(
            "usage.write_refused",
            request_id=show(Prefix.REQUEST, culprit.request.id),
            error=f"{type(error).__name__}: {error}",
        )
        if not culprit.done.done():
            culprit.done.set_exception(error)

    def _acknowledge(self, batch: Sequence[_Waiting]) -> None:
        self._answer(batch)
        self._to_poster([waiting.request for waiting in batch])

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """`batch` is durable: first the gate hears, so that who is answered can spend what was left at once."""
        for waiting in batch:
            usage = waiting.request.usage
            if usage is None:
                self._settlements.released(waiting.request.id)
            else:
                self._settlements.settled(waiting.request.id, usage.customer_amount)
        for waiting in _waiting(batch):
            waiting.done.set_result(None)

    def _to_poster(self, requests: Sequence[FinishedRequest]) -> None:
        """`requests` are committed: what they used can be posted."""
        for request in requests:
            try:
                self._posts.put_nowait(request)
            except asyncio.QueueFull:
                # The rows are committed: the sweeper finds usage by `posted_at`, and holds by their TTL.
                log.warning("usage.post_left_to_sweeper", request_id=show(Prefix.REQUEST, request.id))

    async def _post_batches(self) -> None:
        while batch := await _gather(self._posts, USAGES_PER_POST_MAX):
            await self._post(batch)

    async def _post(self, batch: Sequence[FinishedRequest]) -> None:
        used = [request.id for request in batch if request.usage is not None]
        unused = [request.id for request in batch if request.usage is None]
        pauses = Pauses()
        for _ in range(POST_TRIES_MAX):
            try:
                async with (
                    asyncio.timeout(WRITE_TIMEOUT_S),
                    self._pool.connection(ACQUIRE_TIMEOUT_S) as connection,
                ):
                    await post_requests(connection, used)
                    if unused:
                        await release_holds(connection, unused)
                self._tell_posted(batch)
                return
            except OUTAGE as error:
                log.warning("usage.post_retried", requests=len(batch), error=type(error).__name__)
                await pauses.rest()
            except Exception:
                # The next batch must be posted; to this one the sweeper comes back.
                log.exception("usage.post_failed", requests=len(batch))
                return
        log.warning("usage.posts_left_to_sweeper", requests=len(batch))

    def _tell_posted(self, batch: Sequence[FinishedRequest]) -> None:
        by_lease: dict[UUID, int] = {}
        for request in batch:
            if request.lease_id is not None and request.usage is not None:
                amount = request.usage.customer_amount.amount
                by_lease[request.lease_id] = by_lease.get(request.lease_id, 0) + amount
        for lease_id, amount in by_lease.items():
            self._settlements.posted(lease_id, amount)


async def _gather(queue: asyncio.Queue[T | None], size_max: int) -> list[T]:
    """Wait for one item and take what else is there, up to `size_max`; empty once the queue's end (None) came."""
    end_if_cancelled()
    batch: list[T] = []
    item = await queue.get()
    while item is not None:
        batch.append(item)
        if len(batch) == size_max or queue.empty():
            return batch
        item = queue.get_nowait()
    if batch:
        # The end comes again, after this batch. There is room, for we have just made some.
        queue.put_nowait(None)
    return batch


def _waiting(batch: Sequence[_Waiting]) -> Sequence[_Waiting]:
    """Those whose caller has neither an answer nor given up."""
    return [waiting for waiting in batch if not waiting.done.done()]


def _refuse(batch: Sequence[_Waiting], reason: str) -> None:
    for waiting in _waiting(batch):
        waiting.done.set_exception(_unavailable(waiting.request, reason))


def _unavailable(request: FinishedRequest, reason: str) -> Unavailable:
    return Unavailable(
        f"the usage of {show(Prefix.REQUEST, request.id)} could not be recorded: {reason}; try again"
    )
