"""The worker of a Celery process: an event loop in a thread, connections that stay open, and an eye on the database.

Celery's own process or threads call in; the loop outlives the calls, so that a tick costs a few statements and no
connection. When no call has come for a while, the broker or beat is away, and the process looks for work by itself.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from uuid import UUID

import structlog
from redis.asyncio import Redis

from raymart_billing.connections import OUTAGE, make_pool
from raymart_billing.payouts.books import DatabaseBooks
from raymart_billing.solana import open_chain
from raymart_billing.work.context import Resources
from raymart_billing.work.registry import Registry
from raymart_billing.work.worker import Worker
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.settings import ControlSettings

log = structlog.get_logger()

POOL_SIZE_MAX = 8
"""Connections of each kind: each run needs up to one of both, and one to renew its lease."""
ALONE_AFTER_S = 6.0
"""Without a call for this long the process looks for work by itself."""
LANES_MAX = 4
"""Drains at once, from looking by itself while calls are stuck behind long handlers; each runs one row at a time."""
TICKS_APART_S = 0.4
CLOSE_TIMEOUT_S = 10.0
REDIS_TIMEOUT_S = 5.0

Result = TypeVar("Result")


@asynccontextmanager
async def open_resources(settings: ControlSettings) -> AsyncIterator[Resources]:
    """What handlers share, closed when the block ends. A database that is away is waited for at the first use."""
    engine = make_engine(settings.database_url, pool_size=POOL_SIZE_MAX // 2)
    redis = Redis.from_url(
        settings.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    pool = make_pool(settings.database_url, size_max=POOL_SIZE_MAX, name="work")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stack.push_async_callback(redis.aclose)
        await pool.open(wait=False)
        stack.push_async_callback(pool.close)
        sessions = make_sessions(engine)
        chain = open_chain(settings, books=DatabaseBooks(sessions))
        if chain is not None:
            stack.push_async_callback(chain.aclose)
        yield Resources(sessions=sessions, pool=pool, settings=settings, redis=redis, chain=chain)


class WorkProcess:
    """One process's worker. `drain` may be called from any thread; start it after the process has forked."""

    def __init__(self, settings: ControlSettings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._idle_since = -TICKS_APART_S

    def start(self) -> None:
        """Start the loop's thread; a repeat does nothing."""
        with self._starting:
            if self._loop is not None:
                return
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="raymart-work", daemon=True)
            thread.start()
            self._loop, self._thread = loop, thread
            self._call(self._open())

    def drain(self, first: UUID | None = None) -> int:
        """Run what is due (see `Worker.drain`); returns how many ran. An outage ends it with a log line."""
        self.start()
        return self._call(self._drain(first))

    def tick(self) -> None:
        """`drain`, unless nothing was due a moment ago: ticks that piled up while no worker ran are worth one."""
        if time.monotonic() - self._idle_since > TICKS_APART_S and self.drain() == 0:
            self._idle_since = time.monotonic()

    def close(self) -> None:
        """Stop looking for work, hand back what runs, close the connections, end the thread."""
        with self._starting:
            if self._loop is None:
                return
            try:
                self._call(self._shut(), timeout_s=CLOSE_TIMEOUT_S)
            except TimeoutError:
                log.warning("worker.close_late")
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_TIMEOUT_S)
            if not self._thread.is_alive():
                self._loop.close()
            self._loop = None

    def _call(self, work: Coroutine[None, None, Result], *, timeout_s: float | None = None) -> Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _open(self) -> None:
        self._stack = AsyncExitStack()
        resources = await self._stack.enter_async_context(open_resources(self._settings))
        self._worker = Worker(resources, self._registry)
        self._stack.push_async_callback(self._worker.close)
        self._drains: set[asyncio.Task[int]] = set()
        self._looks: set[asyncio.Task[int]] = set()
        self._called = asyncio.Event()
        self._watch = asyncio.create_task(self._look_when_alone())

    async def _shut(self) -> None:
        running = [self._watch, *self._looks, *self._drains]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._stack.aclose()

    async def _drain(self, first: UUID | None) -> int:
        self._called.set()
        drain = asyncio.create_task(self._worker.drain(first))
        self._drains.add(drain)
        try:
            return await drain
        except OUTAGE as error:
            log.warning("work.interrupted", error=type(error).__name__)
            return 0
        finally:
            self._drains.discard(drain)

    async def _look_when_alone(self) -> None:
        while True:
            self._called.clear()
            try:
                async with asyncio.timeout(ALONE_AFTER_S):
                    await self._called.wait()
            except TimeoutError:
                # Not awaited: a handler that takes minutes must not keep this process from what else is due.
                if len(self._drains) < LANES_MAX:
                    look = asyncio.create_task(self._drain(None))
                    self._looks.add(look)
                    look.add_done_callback(self._looks.discard)
