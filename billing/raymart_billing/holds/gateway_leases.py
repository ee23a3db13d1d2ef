"""A gateway process's leases, put together: gate, book, keeper and presence."""

import asyncio
import contextlib
from uuid import UUID

import structlog

from raymart_billing.connections import Pool
from raymart_billing.holds.book import LeaseBook
from raymart_billing.holds.desk import LeaseDesk
from raymart_billing.holds.gate import LeaseHoldGate
from raymart_billing.holds.keeper import LeaseKeeper
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.presence import GatewayPresence
from raymart_billing.holds.settlements import Settlements
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id

log = structlog.get_logger()

START_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0


class GatewayLeases:
    """Start it before the usage sink and stop it after, so that what was posted can be told apart from what was not.

    `gate` is what the gateway holds by, `settlements` what the sink reports to.
    """

    def __init__(
        self,
        pool: Pool,
        database_url: str,
        *,
        limits: LeaseLimits | None = None,
        gateway_id: UUID | None = None,
    ) -> None:
        """`database_url` is for one connection besides the pool's, open for as long as the process lives."""
        limits = limits or LeaseLimits()
        self.gateway_id = gateway_id or new_id()
        self._book = LeaseBook(limits)
        desk = LeaseDesk(pool, self.gateway_id, limits)
        self.gate = LeaseHoldGate(self._book, desk, limits)
        self._keeper = LeaseKeeper(self._book, desk, limits)
        self._presence = GatewayPresence(
            database_url, self.gateway_id, on_recall=self._recalled, on_absence_over=self._book.forget_all
        )
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def settlements(self) -> Settlements:
        """Who is to be told how requests end."""
        return self._book

    async def start(self) -> None:
        """Begin. A database that is away does not keep the process from starting."""
        assert not self._tasks, "started twice"
        self._tasks = (
            asyncio.create_task(self._presence.run(), name="gateway-presence"),
            asyncio.create_task(self._keeper.run(), name="lease-keeper"),
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._presence.is_here.wait()

    async def give_back(self) -> None:
        """Give back all that no request needs now. Raises: Unavailable."""
        await self._keeper.give_back_all()

    async def stop(self) -> None:
        """Give everything back and end; what a database that is away does not take expires by itself."""
        if not self._tasks:
            return
        await self.gate.stop()
        presence, keeper = self._tasks
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.give_back()
        except (TimeoutError, Unavailable):
            log.warning("lease.left_to_expiry")
        presence.cancel()
        await asyncio.gather(presence, return_exceptions=True)
        self._tasks = ()

    def _recalled(self, organization_id: UUID) -> None:
        self._book.forget_organization(organization_id, recalled=True)
