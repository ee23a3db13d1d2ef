"""A gateway's presence: one connection that holds its lock for as long as the process lives, and hears recalls."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog
from psycopg import AsyncConnection

from raymart_billing.connections import OUTAGE, Connection, Pauses, scalar

log = structlog.get_logger()

CHECK_EVERY_S = 5.0
"""How often a silent connection is asked whether it is still there."""
STATEMENT_TIMEOUT_S = 5.0
_KEEPALIVE = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 -c tcp_user_timeout=15000"
"""For the server's side: a machine that vanished keeps its lock for about 15 s."""


class GatewayPresence:
    """Keeps `gateway_is_alive` true while the process lives: the lock goes with the connection, and that with us.

    `on_recall` is called with the organization, `on_absence_over` whenever a connection begins: notifications may have
    been missed before it.
    """

    def __init__(
        self,
        database_url: str,
        gateway_id: UUID,
        *,
        on_recall: Callable[[UUID], None],
        on_absence_over: Callable[[], None],
    ) -> None:
        self._database_url = database_url
        self._gateway_id = gateway_id
        self._on_recall = on_recall
        self._on_absence_over = on_absence_over
        self.is_here = asyncio.Event()
        """Set while the lock is held."""

    async def run(self) -> None:
        """Stay present until cancelled, through any outage."""
        pauses = Pauses()
        while True:
            try:
                connection = await AsyncConnection.connect(
                    self._database_url,
                    autocommit=True,
                    connect_timeout=5,
                    application_name="raymart-lease",
                    options=_KEEPALIVE,
                )
                async with connection:
                    await self._register(connection)
                    pauses = Pauses()
                    await self._listen(connection)
            except OUTAGE as error:
                if pauses.taken == 0:  # Once an outage, not once a try.
                    log.warning("gateway.absent", error=type(error).__name__)
            finally:
                self.is_here.clear()
            await pauses.rest()

    async def _register(self, connection: Connection) -> None:
        async with asyncio.timeout(STATEMENT_TIMEOUT_S):
            number = await scalar(
                connection, b"select gateway_register(%(gateway)s)", {"gateway": self._gateway_id}
            )
            await connection.execute(b"select pg_advisory_lock(gateway_lock_class(), %s)", (number,))
            await connection.execute(b"listen credit_lease_recall")
        self.is_here.set()
        self._on_absence_over()

    async def _listen(self, connection: Connection) -> None:
        while True:
            async for notice in connection.notifies(timeout=CHECK_EVERY_S):
                self._on_recall(UUID(notice.payload))
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await connection.execute(b"select 1")
