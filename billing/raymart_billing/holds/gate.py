"""The gate before dispatch: requests are admitted in memory, under a lease of their spender's money.

    hold() -- slice large enough? --> reserve it: no statement, no task, no lock
                `- no --> one statement enlarges the lease for all that wait (`SliceGrowth`)
                            `- near zero balance or budget --> a single-use lease of the request's own
                                  `- short, while others have leases --> recall them, try again for a moment, then 402

The database is the judge of every nano-USD that is leased (`lease_take`); here is only arithmetic under what it granted.
While it is away, requests are admitted from what is leased until the leases' local deadline, and then refused.
"""

import asyncio
import random
from uuid import UUID

import structlog

from raymart_billing.holds.book import LeaseBook
from raymart_billing.holds.desk import LeaseDesk, Taken
from raymart_billing.holds.growth import SliceGrowth
from raymart_billing.holds.lease import Lease, Payer, Spender, Waiter
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.refusal import Refused
from raymart_core.money import Asset, Money

log = structlog.get_logger()

RECALL_PAUSE_S_MIN, RECALL_PAUSE_S_MAX = 0.01, 0.04
LOW_WATER = 4
"""A lease with less than 1/4 of a slice left is enlarged before it is empty."""


class LeaseHoldGate:
    """Implements `core.ports.HoldGate`. Any number of processes may run one each, on one database."""

    def __init__(self, book: LeaseBook, desk: LeaseDesk, limits: LeaseLimits) -> None:
        self._book = book
        self._desk = desk
        self._limits = limits
        self._growth = SliceGrowth(book, desk, limits)
        self._alone = asyncio.Semaphore(limits.takes_at_once_max)
        self._recalls: dict[UUID, asyncio.Task[None]] = {}
        self._taking: set[asyncio.Task[UUID]] = set()

    async def hold(
        self,
        *,
        request_id: UUID,
        organization_id: UUID,
        project_id: UUID,
        api_key_id: UUID | None,
        amount: Money,
        ttl_s: float,
    ) -> UUID:
        """Reserve `amount` (more than 0) for `request_id`; returns the lease that pays. A repeat returns the same.

        What is reserved and neither settled nor released `ttl_s` from now is available again. A call that raises or is
        cancelled leaves nothing reserved.
        Raises: InsufficientFunds, BudgetExceeded, Forbidden (blocked), Unavailable when the database stays away.
        """
        payer = Payer(organization_id, project_id, api_key_id)
        spender = self._book.payers.get(payer)
        if spender is not None and (lease := spender.lease) is not None:
            now = asyncio.get_running_loop().time()
            nano = amount.amount
            left = lease.granted - lease.returned - lease.reserved - lease.settled - nano
            if left >= 0 and now < lease.deadline and request_id not in self._book.reservations:
                self._book.reserve(lease, request_id, nano, now + ttl_s)
                if LOW_WATER * left < spender.slice and now >= spender.no_growth_until:
                    self._growth.begin(spender)
                return lease.id
        assert amount.asset is Asset.USD
        assert amount.amount > 0, f"hold of {amount}"
        return await self._hold_slowly(payer, request_id, amount.amount, ttl_s)

    async def release(self, *, request_id: UUID) -> None:
        """Give back what `request_id` reserved; a no-op when it was settled, released or is unknown."""
        self._book.released(request_id)

    async def stop(self) -> None:
        """End what is under way; requests that wait are refused."""
        await self._growth.stop()
        tasks: list[asyncio.Task[UUID] | asyncio.Task[None]] = [*self._recalls.values(), *self._taking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hold_slowly(self, payer: Payer, request_id: UUID, amount: int, ttl_s: float) -> UUID:
        standing = self._book.reservations.get(request_id)
        if standing is not None:
            return standing.lease.id
        spender = await self._spender_of(payer)
        loop = asyncio.get_running_loop()
        if loop.time() >= spender.per_request_until:
            waiter = Waiter(request_id, amount, ttl_s, loop.create_future())
            lease = await self._growth.join(spender, waiter)
            if lease is not None:
                return lease.id
        # In a task of its own: a client that leaves must not leave us in doubt whether the database granted it.
        taking = loop.create_task(self._take_alone(spender, payer, request_id, amount, ttl_s))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(lambda done: self._abandoned(done, request_id))
            raise

    def _abandoned(self, taking: asyncio.Task[UUID], request_id: UUID) -> None:
        if not taking.cancelled():
            taking.exception()  # Heard, and of no interest any more.
        self._book.released(request_id)

    async def _spender_of(self, payer: Payer) -> Spender:
        """Who spends on this payer's account. Raises: Unavailable."""
        while (spender := self._book.payers.get(payer)) is None:
            changes = self._book.changes
            budgets = await self._desk.budgets_of(payer)
            if (
                changes == self._book.changes
            ):  # Otherwise they may have been read before a change we heard of since.
                return self._book.spender(payer, budgets)
        return spender

    # Near zero

    async def _take_alone(
        self, spender: Spender, payer: Payer, request_id: UUID, amount: int, ttl_s: float
    ) -> UUID:
        """A lease for this request only. Raises: InsufficientFunds, BudgetExceeded, Forbidden, Unavailable."""
        loop = asyncio.get_running_loop()
        patient_until = None
        while True:
            try:
                async with self._alone:
                    await self._take_single_use(spender, payer, request_id, amount, ttl_s)
            except Refused as refused:
                if patient_until is None:
                    patient_until = loop.time() + self._limits.recall_wait_s
                if not refused.is_hopeful or loop.time() >= patient_until:
                    raise refused.explained(payer.organization_id, amount) from None
                await self._recall(payer.organization_id)
                await asyncio.sleep(random.uniform(RECALL_PAUSE_S_MIN, RECALL_PAUSE_S_MAX))  # noqa: S311 - spreads load
            else:
                return request_id

    async def _take_single_use(
        self, spender: Spender, payer: Payer, request_id: UUID, amount: int, ttl_s: float
    ) -> Taken:
        """Raises: Refused, Unavailable."""
        lease = Lease(request_id, spender, single_use=True)
        self._book.leases[request_id] = lease
        try:
            taken = await self._desk.take(
                request_id, step=1, payer=payer, needed=amount, wanted=amount, single_use=True
            )
        except Refused:
            del self._book.leases[request_id]
            raise
        except BaseException:
            lease.step = 1  # Perhaps granted: the keeper gives it back.
            lease.close()
            self._book.attention.set()
            raise
        now = asyncio.get_running_loop().time()
        lease.step, lease.granted, lease.confirmed_at, lease.used_at = 1, taken.granted, now, now
        self._book.reserve(lease, request_id, amount, now + ttl_s)
        return taken

    async def _recall(self, organization_id: UUID) -> None:
        """Ask everybody, ourselves too, for what is not needed; one statement for all that are short at the time."""
        recall = self._recalls.get(organization_id)
        if recall is None:
            recall = asyncio.create_task(self._ask_back(organization_id))
            self._recalls[organization_id] = recall
            recall.add_done_callback(lambda _: self._recalls.pop(organization_id, None))
        await asyncio.shield(recall)

    async def _ask_back(self, organization_id: UUID) -> None:
        await self._desk.recall(organization_id)
        # Our own listener would tell us too, a moment later. Not before the statement: an answer must follow its recall.
        self._book.forget_organization(organization_id, recalled=True)
