"""The agent's side of benchmarks: takes the marketplace's orders one after the other and sends the results."""

import asyncio
import contextlib
import secrets

import structlog

from raymart_core.wire.link import Control, Welcome
from raymart_core.wire.machine import (
    BENCHMARK_DATA_BYTES,
    BenchmarkData,
    BenchmarkOrder,
    BenchmarkResult,
)
from raymart_providers.benchmark.process import WorkerProcess
from raymart_providers.link.outbox import Outbox

log = structlog.get_logger()

_ORDERS_MAX = 4
"""Orders that wait; one more is answered with a problem."""
_IDLE_S = 30.0
"""A worker that has had no order for this long is ended: it holds memory, on a GPU much of it."""
_NETWORK_BYTES_MAX = 4 * 1024 * 1024


class BenchmarkDesk:
    """Works while a link is up. Implements duty.Duty."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._outbox: Outbox | None = None
        self._orders: asyncio.Queue[tuple[BenchmarkOrder, Outbox]] = asyncio.Queue(_ORDERS_MAX)

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """A link is live."""
        del welcome
        self._outbox = outbox

    def down(self) -> None:
        """The link is gone, and nobody waits for what was ordered through it."""
        self._outbox = None
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._orders.get_nowait()

    def heartbeat(self) -> None:
        """Nothing is told with it."""

    def take(self, message: Control) -> bool:
        """Queue an order; a ping is answered at once."""
        if not isinstance(message, BenchmarkOrder):
            return False
        if self._outbox is not None:
            self._queue(message, self._outbox)
        return True

    async def run(self) -> None:
        """Carry orders out until cancelled."""
        try:
            while True:
                await self._next()
        finally:
            await self._worker.close()

    def _queue(self, order: BenchmarkOrder, outbox: Outbox) -> None:
        if order.check == "ping":
            outbox.control(BenchmarkResult(order=order.order))
            return
        try:
            self._orders.put_nowait((order, outbox))
        except asyncio.QueueFull:
            problem = f"{_ORDERS_MAX} orders wait already; one is carried out after the other"
            outbox.control(BenchmarkResult(order=order.order, problem=problem))

    async def _next(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_S if self._worker.pid is not None else None):
                order, outbox = await self._orders.get()
        except TimeoutError:
            await self._worker.close()
            return
        log.info("benchmark.ordered", check=order.check, device=order.device or "cpu")
        if order.check == "network":
            result = _send(order, outbox)
        else:
            result = await self._worker.carry_out(order)
        if result.problem:
            log.warning("benchmark.not_measured", check=order.check, reason=result.problem)
        if self._outbox is outbox:
            outbox.control(result)


def _send(order: BenchmarkOrder, outbox: Outbox) -> BenchmarkResult:
    """Queue the bytes that the marketplace times the arrival of. A result follows them on the same link."""
    size = min(order.size, _NETWORK_BYTES_MAX)
    for sent in range(0, size, BENCHMARK_DATA_BYTES):
        payload = secrets.token_bytes(min(BENCHMARK_DATA_BYTES, size - sent))
        outbox.control(BenchmarkData(order=order.order, payload=payload))
    return BenchmarkResult(order=order.order, amount=float(size))
