"""Connections of the hot path: a psycopg pool without ORM, and patience while PostgreSQL restarts."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from raymart_core.errors import Unavailable

log = structlog.get_logger()

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]
T = TypeVar("T")

OUTAGE = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)
"""What a lost, refused or late connection raises; also a deadlock, which is as harmless to repeat."""
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 0.5
ACQUIRE_TIMEOUT_S = 2.0
"""One wait for a connection."""
RECONNECT_EVERY_S = 0.25
"""How often a pool that somebody waits at tries to reach a server that is away."""


def make_pool(url: str, *, size_max: int = 10, name: str = "billing") -> Pool:
    """A closed pool on `url` (postgresql://...) of at most `size_max` connections in autocommit; open it with `async with`.

    Autocommit, because a hold is one statement: a transaction around it would triple its round trips.
    """
    return AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[TupleRow],
        kwargs={"autocommit": True, "connect_timeout": 5, "application_name": f"raymart-{name}"},
        min_size=min(2, size_max),
        max_size=size_max,
        timeout=ACQUIRE_TIMEOUT_S,
        # The pool's own tries begin 1 s apart and double their distance: it would sleep through the server's return.
        reconnect_timeout=RECONNECT_EVERY_S,
        reconnect_failed=_try_on,
        open=False,
        name=name,
    )


async def _try_on(pool: AsyncConnectionPool[Any]) -> None:
    """After a connection was given up: another, for as long as somebody waits. Who comes later starts one anyway."""
    await asyncio.sleep(RECONNECT_EVERY_S)
    if pool.get_stats().get("requests_waiting"):
        await pool.check()  # Which lets it grow.


async def insist(
    pool: Pool, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float, purpose: str
) -> T:
    """Run `work` on a connection of `pool`; after an outage again on another one, with growing, jittered pauses.

    `work` must be idempotent: a connection lost during its commit leaves open whether it took effect.
    Raises: Unavailable after `timeout_s`; whatever else `work` raises.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + timeout_s
    pauses = Pauses()
    while True:
        try:
            async with asyncio.timeout_at(deadline), pool.connection(ACQUIRE_TIMEOUT_S) as connection:
                return await work(connection)
        except OUTAGE as error:
            if clock.time() >= deadline:
                raise Unavailable(
                    f"{purpose}: the database did not answer within {timeout_s:g} s; try again"
                ) from error
            if pauses.taken == 0:  # Once a call: an outage is no reason to fill the log.
                log.warning("database.away", purpose=purpose, error=type(error).__name__)
        await pauses.rest()


class KeptConnection:
    """A connection of `pool` that one user keeps while there is more to do: borrowing takes as long as a short statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    @contextlib.asynccontextmanager
    async def use(self, timeout_s: float) -> AsyncIterator[Connection]:
        """The connection that is kept, or one that comes within `timeout_s`. Whatever goes wrong with it, it goes back."""
        if self._connection is None:
            self._connection = await self._pool.getconn(timeout_s)
        try:
            yield self._connection
        except BaseException:
            await self.give_back()  # The pool looks whether it is still good.
            raise

    async def give_back(self) -> None:
        """Keep none; a no-op when none is kept."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.putconn(connection)


class Pauses:
    """Waits between tries: doubling from 20 ms to 0.5 s, each shortened by up to half so that many waiters spread."""

    def __init__(self) -> None:
        self.taken = 0

    async def rest(self) -> None:
        """Wait before the next try. Raises: CancelledError, see `end_if_cancelled`."""
        end_if_cancelled()
        pause_s = min(PAUSE_S_MIN * 2 ** min(self.taken, 8), PAUSE_S_MAX)
        self.taken += 1
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing


def end_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and the cancellation got lost on the way.

    A task that is cancelled while its connection or pool goes away may be told of the loss only; who catches that as an
    outage and tries again would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def scalar(connection: Connection, statement: bytes, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - the statement's own type
    """The first column of the only row of `statement`."""
    row = await (await connection.execute(statement, parameters)).fetchone()
    assert row is not None, f"no row: {statement!r}"
    return row[0]
