"""Enlarging a spender's lease: one statement for all requests that wait for it."""

import asyncio
from collections.abc import Sequence

import structlog

from raymart_billing.holds.book import LeaseBook
from raymart_billing.holds.desk import LeaseDesk, Taken
from raymart_billing.holds.lease import Lease, Spender, Waiter
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.refusal import BLOCKED, IS_OPEN, Refused
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id

log = structlog.get_logger()

RAMP_S = 1.0
"""A slice that was used up sooner than this is doubled."""


class SliceGrowth:
    """Has each spender's lease enlarged by one task at a time; who comes meanwhile joins the next statement."""

    def __init__(self, book: LeaseBook, desk: LeaseDesk, limits: LeaseLimits) -> None:
        self._book = book
        self._desk = desk
        self._limits = limits
        self._growing: set[asyncio.Task[None]] = set()

    async def join(self, spender: Spender, waiter: Waiter) -> Lease | None:
        """Wait until the lease is large enough for the request; None when it must try for a lease of its own.

        Raises: Forbidden, Unavailable; CancelledError, and then nothing stays reserved.
        """
        spender.waiters.append(waiter)
        self.begin(spender)
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            # It may have been admitted in the instant in which its client left.
            if not waiter.admitted.cancelled():
                self._book.released(waiter.request_id)
            raise

    def begin(self, spender: Spender) -> None:
        """Enlarge the lease now, unless that is under way."""
        if spender.growth is not None:
            return
        spender.growth = asyncio.get_running_loop().create_task(self._grow(spender), name="lease-growth")
        self._growing.add(spender.growth)
        spender.growth.add_done_callback(self._growing.discard)

    async def stop(self) -> None:
        """End what is under way; who waits is refused."""
        for task in self._growing:
            task.cancel()
        await asyncio.gather(*self._growing, return_exceptions=True)

    async def _grow(self, spender: Spender) -> None:
        try:
            await self._enlarge(spender)
            while _waiting(spender):
                await self._enlarge(spender)
        except Unavailable as error:
            _refuse(spender, error)
        except BaseException as error:
            _refuse(spender, Unavailable("the gateway is stopping; try again"))
            if isinstance(error, asyncio.CancelledError):
                raise
            log.exception("lease.growth_failed")
        finally:
            spender.growth = None

    async def _enlarge(self, spender: Spender) -> None:
        """One statement, and an answer to everybody who waited when it began."""
        waiting = _waiting(spender)
        lease = spender.lease
        if lease is not None and (lease.giving is not None or lease.turn.locked()):
            lease.close()  # Something of it is on its way back: another takes its place.
            lease = None
        needed = sum(waiter.amount for waiter in waiting) - (lease.available if lease is not None else 0)
        now = asyncio.get_running_loop().time()
        if waiting and needed <= 0 and lease is not None and now < lease.deadline:
            self._admit(lease, waiting)
            return
        # A lease that is large enough and past its deadline is asked for a little more: that renews it.
        if lease is None:
            lease = Lease(new_id(), spender)
            self._book.leases[lease.id] = lease
        try:
            taken = await self._take(spender, lease, needed=max(needed, 1))
        except Refused as refused:
            self._refused(spender, lease, waiting, refused)
            return
        if taken.budgets == spender.budgets:
            self._admit(lease, waiting)
            if not lease.closing:
                spender.lease = lease
        else:
            # The budgets were changed and we have not heard of it yet.
            self._book.forget_organization(spender.payer.organization_id, recalled=False)
            lease.close()
        _answer_none(waiting)

    async def _take(self, spender: Spender, lease: Lease, *, needed: int) -> Taken:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        if asked_at - spender.grown_at < RAMP_S:
            spender.slice = min(2 * spender.slice, self._limits.slice_max)
        async with lease.turn:
            try:
                taken = await self._desk.take(
                    lease.id,
                    step=lease.step + 1,
                    payer=spender.payer,
                    needed=needed,
                    wanted=max(needed, spender.slice),
                    single_use=False,
                )
            except Refused:
                raise
            except BaseException:
                # Whether it was granted is not known: this step is used up, and the lease goes back.
                lease.step += 1
                lease.close()
                self._book.attention.set()
                raise
        lease.step += 1
        lease.granted += taken.granted
        lease.confirmed_at = lease.used_at = spender.grown_at = loop.time()
        if not lease.closing:
            # Counted from before the statement: our deadline comes before the database's, whatever the delay.
            lease.deadline = asked_at + taken.left_s - self._limits.margin_s
        return taken

    def _admit(self, lease: Lease, waiting: Sequence[Waiter]) -> None:
        """Reserve for those who wait, in their order, as far as it goes."""
        now = asyncio.get_running_loop().time()
        for waiter in waiting:
            if not waiter.admitted.done() and waiter.amount <= lease.available:
                self._book.reserve(lease, waiter.request_id, waiter.amount, now + waiter.ttl_s)
                waiter.admitted.set_result(lease)

    def _refused(self, spender: Spender, lease: Lease, waiting: Sequence[Waiter], refused: Refused) -> None:
        if not lease.step:
            del self._book.leases[lease.id]
        if refused.constraint == IS_OPEN:
            lease.close()  # The next round opens another.
            self._book.attention.set()
            return
        until = asyncio.get_running_loop().time() + self._limits.per_request_s
        if not waiting:
            spender.no_growth_until = until  # It was meant ahead of need, and there is still something left.
            return
        if refused.constraint == BLOCKED:
            for waiter in waiting:
                if not waiter.admitted.done():
                    waiter.admitted.set_exception(
                        refused.explained(spender.payer.organization_id, waiter.amount)
                    )
            return
        spender.per_request_until = until
        if not lease.closing and lease.step:
            self._admit(lease, waiting)
        _answer_none(waiting)


def _waiting(spender: Spender) -> list[Waiter]:
    """Those who have no answer yet and have not left."""
    while spender.waiters and spender.waiters[0].admitted.done():
        spender.waiters.popleft()
    return [waiter for waiter in spender.waiters if not waiter.admitted.done()]


def _answer_none(waiting: Sequence[Waiter]) -> None:
    for waiter in waiting:
        if not waiter.admitted.done():
            waiter.admitted.set_result(None)


def _refuse(spender: Spender, error: Unavailable) -> None:
    for waiter in _waiting(spender):
        waiter.admitted.set_exception(error)
