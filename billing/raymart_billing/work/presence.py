"""Whether a worker lives: it holds a session's advisory lock on its number, which ends with its process.

No clock decides. The connection must reach PostgreSQL itself: a pooler that shares sessions would share their locks.
"""

import asyncio

import structlog
from psycopg import AsyncConnection

from raymart_billing.connections import OUTAGE, Connection, scalar

log = structlog.get_logger()

LOCK_CLASS = 2_003_792_491
""""work" in ASCII; `work_worker_is_alive` of migration 0007 looks for it."""
# The server notices within 25 s that a machine is gone, and frees its locks. Its own default is two hours.
_KEEPALIVE = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


class Presence:
    """The connection that holds this worker's lock. A lost one is replaced, with a new number."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: Connection | None = None
        self._number = 0
        self._opening = asyncio.Lock()

    async def number(self) -> int:
        """This worker's number, as soon as its lock is held. Raises: what `connections.OUTAGE` names."""
        async with self._opening:
            if self._connection is not None:
                try:
                    await self._connection.execute(b"select 1")
                    return self._number
                except OUTAGE as error:
                    log.warning("worker.presence_lost", worker=self._number, error=type(error).__name__)
                    await self._close()
            return await self._open()

    async def end(self) -> None:
        """Give up the lock: what this worker still leases may be taken over when its lease ends."""
        async with self._opening:
            await self._close()

    async def _open(self) -> int:
        connection = await AsyncConnection.connect(
            self._database_url,
            autocommit=True,
            connect_timeout=5,
            application_name="raymart-worker",
            options=_KEEPALIVE,
        )
        try:
            number: int = await scalar(connection, b"select nextval('work_worker_number')::int", {})
            parameters = {"class": LOCK_CLASS, "number": number}
            await connection.execute(b"select pg_advisory_lock(%(class)s, %(number)s)", parameters)
        except BaseException:
            await connection.close()
            raise
        self._connection, self._number = connection, number
        return number

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
