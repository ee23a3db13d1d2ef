"""Upkeep of a gateway's leases in the background: renewed on a timer, given back when idle, recalled or over."""

import asyncio
import contextlib
from collections.abc import Sequence
from uuid import UUID

import structlog

from raymart_billing.holds.book import LeaseBook
from raymart_billing.holds.desk import RETURNS_PER_STATEMENT_MAX, LeaseDesk, Standing
from raymart_billing.holds.lease import Giving, Lease, Payer, Spender
from raymart_billing.holds.limits import LeaseLimits
from raymart_core.errors import Unavailable

log = structlog.get_logger()

GATHER_S = 0.005
"""What asks for attention within this time goes back in one statement."""


class LeaseKeeper:
    """One per gateway process, beside its gate."""

    def __init__(self, book: LeaseBook, desk: LeaseDesk, limits: LeaseLimits) -> None:
        self._book = book
        self._desk = desk
        self._limits = limits
        self._renewed_at = 0.0
        nobody = UUID(int=0)
        self._nobody = Spender(Payer(nobody, nobody, None), frozenset(), slice_min=limits.slice_min)
        """Who asked for the leases whose answer was lost."""

    async def run(self) -> None:
        """Work until cancelled. An outage ends nothing: what could not be given back is given back later."""
        loop = asyncio.get_running_loop()
        self._renewed_at = loop.time()
        tick_s = min(self._limits.renew_every_s, self._limits.idle_s) / 3
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick_s):
                    await self._book.attention.wait()
                    await asyncio.sleep(GATHER_S)
            try:
                if loop.time() >= self._renewed_at + self._limits.renew_every_s:
                    await self.renew()
                self._close_what_is_over(loop.time())
                await self.give_back()
            except Unavailable:  # Which `insist` has logged.
                await asyncio.sleep(self._limits.renew_every_s / 10)
            except Exception:
                log.exception("lease.upkeep_failed")
                await asyncio.sleep(self._limits.renew_every_s / 10)

    async def renew(self) -> None:
        """Extend every lease, and take note of what the database knows better. Raises: Unavailable."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        over_s = begun_at - self._renewed_at
        self._renewed_at = begun_at
        dropped = self._book.drop_overdue(begun_at)
        if dropped:
            log.warning("hold.overdue", requests=dropped)
        # While it waits for a lease, nothing of it is on its way.
        settled_before = {
            lease: lease.step for lease in self._book.leases.values() if not lease.turn.locked()
        }
        standings = await self._desk.renew()
        self._meet(standings, settled_before, begun_at)
        self._resize_slices(over_s)
        self._book.forget_idle_spenders()

    def _meet(self, standings: Sequence[Standing], quiet: dict[Lease, int], begun_at: float) -> None:
        """Bring the book in line with the database."""
        known = {standing.lease_id: standing for standing in standings}
        for lease in list(self._book.leases.values()):
            standing = known.pop(lease.id, None)
            if standing is None:
                if lease.confirmed_at is not None and lease.confirmed_at < begun_at:
                    self._lost(lease)
                continue
            lease.charged = max(lease.charged, standing.charged)
            # Charges of reservations that were dropped, or that another process posted.
            lease.settled = max(lease.settled, standing.charged)
            if not lease.closing:
                lease.deadline = begun_at + standing.left_s - self._limits.margin_s
            if standing.is_recalled and not lease.recalled:
                self._book.forget_organization(lease.spender.payer.organization_id, recalled=True)
            is_quiet = quiet.get(lease) == lease.step and not lease.turn.locked() and lease.giving is None
            if is_quiet and not lease.single_use:
                lease.granted = min(lease.granted, standing.held + standing.charged + lease.returned)
        for standing in known.values():
            # Granted to us, but the answer was lost and the lease given up.
            stray = Lease(standing.lease_id, self._nobody, single_use=standing.is_single_use)
            stray.step = standing.step
            stray.confirmed_at = begun_at
            stray.close()
            self._book.leases[stray.id] = stray
            self._book.attention.set()

    def _lost(self, lease: Lease) -> None:
        """The database has closed it: a single-use lease by its capture, another because it was given up for dead."""
        lease.close()
        del self._book.leases[lease.id]
        if not lease.single_use and lease.giving is None:
            log.warning("lease.lost", lease_id=str(lease.id), reserved_nano_usd=lease.reserved)

    def _close_what_is_over(self, now: float) -> None:
        for lease in self._book.leases.values():
            if lease.reserved or lease.settled != lease.settled_when_used:
                lease.used_at, lease.settled_when_used = now, lease.settled
            # One that is being taken has no deadline yet: closed now, it would serve its first request and no other.
            if lease.single_use or lease.closing or lease.confirmed_at is None:
                continue
            if now >= lease.deadline or now - lease.used_at >= self._limits.idle_s:
                lease.close()
                self._book.attention.set()

    def _resize_slices(self, over_s: float) -> None:
        spent: dict[Spender, int] = {}
        for lease in self._book.leases.values():
            spent[lease.spender] = spent.get(lease.spender, 0) + lease.settled - lease.seen_settled
            lease.seen_settled = lease.settled
        for spender, amount in spent.items():
            spender.resize(
                amount,
                max(over_s, 0.001),
                horizon_s=self._limits.horizon_s,
                slice_min=self._limits.slice_min,
                slice_max=self._limits.slice_max,
            )

    async def give_back(self) -> None:
        """Give back what leases that are closing do not need, and close those that are done. Raises: Unavailable."""
        self._book.attention.clear()
        for lease in self._book.leases.values():
            if lease.giving is None and not lease.turn.locked():
                lease.giving = _due(lease)
                if lease.giving is not None:
                    lease.returned += lease.giving.amount
        going = [lease for lease in self._book.leases.values() if lease.giving is not None]
        for begin in range(0, len(going), RETURNS_PER_STATEMENT_MAX):
            await self._give(going[begin : begin + RETURNS_PER_STATEMENT_MAX])

    async def _give(self, batch: Sequence[Lease]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for lease in batch:
                await stack.enter_async_context(lease.turn)
            given = [(lease.id, lease.giving) for lease in batch if lease.giving is not None]
            await self._desk.give_back(given)
            for lease in batch:
                giving, lease.giving = lease.giving, None
                if giving is None:
                    continue  # Another call had its turn before this one and gave it back.
                lease.step = giving.step
                lease.answered = lease.recalled
                if giving.closes:
                    self._book.leases.pop(lease.id, None)

    async def give_back_all(self) -> None:
        """Close every lease and give back all that is not needed, now. Raises: Unavailable."""
        for lease in self._book.leases.values():
            if not lease.single_use:
                lease.close()
        await self.give_back()


def _due(lease: Lease) -> Giving | None:
    """What a lease should give back now."""
    if not lease.closing:
        return None
    amount = max(lease.available, 0)
    if lease.is_idle:
        return Giving(lease.step + 1, amount, closes=True)
    if lease.single_use or (not amount and lease.answered >= lease.recalled):
        return None
    return Giving(lease.step + 1, amount, closes=False)
