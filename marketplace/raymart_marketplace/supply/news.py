"""What changed about nodes and providers, heard by every process that holds links: at once, when a change is committed.

The database tells (`tell_news`, migration 0047), so nothing that changes a row can forget to. News that was missed while
the connection was away is made up for by looking at every link once it is back, and by the links' own recheck.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from psycopg import AsyncConnection, OperationalError

log = structlog.get_logger()

CHANNEL = "supply_news"
CHECK_EVERY_S = 5.0
"""How often a silent connection is asked whether it is still there."""
STATEMENT_TIMEOUT_S = 5.0
RETRY_S = 1.0


class SupplyNews:
    """Listens for as long as it runs. One per process.

    `on_node` and `on_provider` are called with whose row changed; `on_absence_over` whenever a connection begins. They
    must not wait.
    """

    def __init__(
        self,
        database_url: str,
        *,
        on_node: Callable[[UUID], None],
        on_provider: Callable[[UUID], None],
        on_absence_over: Callable[[], None],
    ) -> None:
        self._database_url = database_url
        self._on = {"node": on_node, "provider": on_provider}
        self._on_absence_over = on_absence_over
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        self.listening = asyncio.Event()
        """Set while news arrives."""

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._run(), name="supply.news")

    async def stop(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """Listen for ever; while the database is away, try again every second."""
        while True:
            try:
                connection = await AsyncConnection.connect(
                    self._database_url,
                    autocommit=True,
                    connect_timeout=5,
                    application_name="raymart-supply-news",
                )
                async with connection:
                    await self._listen(connection)
            except (OperationalError, OSError, TimeoutError) as error:
                if not self._is_away:  # Once an outage.
                    log.warning("supply.deaf", error=type(error).__name__)
                self._is_away = True
            finally:
                self.listening.clear()
            await asyncio.sleep(RETRY_S)

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        """Raises: what a connection that breaks raises."""
        async with asyncio.timeout(STATEMENT_TIMEOUT_S):
            await connection.execute(b"listen " + CHANNEL.encode())
        self._is_away = False
        self.listening.set()
        self._on_absence_over()
        while True:
            async for notice in connection.notifies(timeout=CHECK_EVERY_S):
                self._hear(notice.payload)
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await connection.execute(b"select 1")

    def _hear(self, payload: str) -> None:
        table, _, identity = payload.partition(" ")
        try:
            tell, who = self._on[table], UUID(identity)
        except (KeyError, ValueError):
            # A newer release may say more than this one understands.
            log.warning("supply.unknown_news", payload=payload[:50])
            return
        tell(who)
