"""The writer: batches of finished requests made durable, and the answer to those who wait for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, KeptConnection, Pauses, Pool
from raymart_billing.posting.fallback import SPILL_AFTER_S, Fallback
from raymart_billing.posting.gathering import Gathering
from raymart_billing.records import BatchStatement
from raymart_core.errors import Unavailable
from raymart_core.ids import Prefix, show
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

BATCH_MAX = 1_000
PACE_S = 0.01
"""The most that a batch waits for company, from when the last one began."""
PACE_EACH_S = 0.0005
"""For each record of that one. Eight customers who ask without a pause then share one batch instead of three."""
WRITE_TIMEOUT_S = 10.0
"""One try of a batch; a server that accepts and then says nothing is an outage too."""
SPILL_WRITE_TIMEOUT_S = 4.0
"""The same where there is somewhere else to keep the batch."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A finished request and who waits for it.

    A failure before the write withdraws the request; a caller that was cancelled (and `done` with it) does not.
    """

    request: FinishedRequest
    encoded: bytes
    """`request` as the batch's statement takes it."""
    has_checkpoint: bool
    deadline: float
    """On the loop's clock."""
    done: asyncio.Future[None]

    def fail(self, error: Exception) -> None:
        """Tell the caller, if it is still there, that the request is not recorded."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # A caller that is cancelled at this moment never asks.


class RecordWriter:
    """Writes what gathers in `records`, one batch at a time; `run` is its task.

    `on_durable` hears of each batch before its callers do, so that who is answered can spend what was left at once;
    `on_committed` hears of what is in PostgreSQL, and can be posted.
    """

    def __init__(
        self,
        pool: Pool,
        records: Gathering[Waiting],
        *,
        fallback: Fallback | None,
        on_durable: Callable[[Sequence[FinishedRequest]], None],
        on_committed: Callable[[Sequence[FinishedRequest]], None],
    ) -> None:
        self._records = records
        self._fallback = fallback
        self._on_durable = on_durable
        self._on_committed = on_committed
        self._statement = BatchStatement()
        self._kept = KeptConnection(pool)
        self.batch: Sequence[Waiting] = ()
        """What is being written."""

    async def run(self) -> None:
        """Write until `records` is closed and empty."""
        try:
            while batch := await self._records.batch():
                self.batch = batch
                await self._write(batch)
                self.batch = ()
                if not self._records:
                    await self._kept.give_back()
        finally:
            for waiting in self.batch:  # Nobody waits for a writer that was cancelled.
                waiting.fail(unavailable(waiting.request, "the process is stopping"))
            await self._kept.give_back()

    async def _write(self, batch: Sequence[Waiting]) -> None:
        """Write `batch` whole, waiting out outages; when the database refuses it, by halves down to the culprit.

        A repeat is safe: what a connection lost during its commit left in doubt is recorded once.
        """
        pauses = Pauses()
        clock = asyncio.get_running_loop()
        begun = clock.time()
        while batch:
            if await self._spilled(batch):
                return
            try:
                written = await self._insert(batch)
            except OUTAGE as error:
                log.warning("usage.write_retried", records=len(batch), error=type(error).__name__)
                if self._fallback is not None and clock.time() - begun >= SPILL_AFTER_S:
                    self._fallback.database_went_away()
                else:
                    await pauses.rest()
                batch = _wanted(batch)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one record must not stop the writer
                await self._split(_wanted(batch), error)
                return
            else:
                self._acknowledge(written, is_committed=True)
                return

    async def _insert(self, batch: Sequence[Waiting]) -> Sequence[Waiting]:
        """Write those of `batch` that are still wanted once there is a connection; returns them."""
        timeout_s, acquire_s = WRITE_TIMEOUT_S, ACQUIRE_TIMEOUT_S
        if self._fallback is not None:
            timeout_s, acquire_s = SPILL_WRITE_TIMEOUT_S, SPILL_AFTER_S
        async with asyncio.timeout(timeout_s), self._kept.use(acquire_s) as connection:
            written = _wanted(batch)
            await self._statement.record(
                connection,
                [waiting.request for waiting in written],
                encoded=[waiting.encoded for waiting in written],
                forget_checkpoints=any(waiting.has_checkpoint for waiting in written),
            )
            return written

    async def _spilled(self, batch: Sequence[Waiting]) -> bool:
        """While PostgreSQL is away, keep `batch` elsewhere; false when it is not, or nothing else takes them either."""
        if self._fallback is None or not self._fallback.is_away:
            return False
        wanted = _wanted(batch)
        if not await self._fallback.keep([waiting.request for waiting in wanted]):
            return False
        self._acknowledge(wanted, is_committed=False)
        return True

    async def _split(self, batch: Sequence[Waiting], error: Exception) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        [culprit] = batch
        reason, _, _ = str(error).partition("\n")
        log.error(
            "usage.write_refused",
            request_id=show(Prefix.REQUEST, culprit.request.id),
            error=f"{type(error).__name__}: {reason}",
        )
        culprit.fail(error)

    def _acknowledge(self, batch: Sequence[Waiting], *, is_committed: bool) -> None:
        requests = [waiting.request for waiting in batch]
        self._on_durable(requests)
        for waiting in batch:
            if not waiting.done.done():  # The caller is still there.
                waiting.done.set_result(None)
        if is_committed:
            self._on_committed(requests)


def unavailable(request: FinishedRequest, reason: str) -> Unavailable:
    """What a caller is told whose request is not recorded."""
    return Unavailable(
        f"the usage of {show(Prefix.REQUEST, request.id)} could not be recorded: {reason}; try again"
    )


def _wanted(batch: Sequence[Waiting]) -> Sequence[Waiting]:
    """Those that are still to be recorded."""
    return [waiting for waiting in batch if not waiting.done.done() or waiting.done.cancelled()]
