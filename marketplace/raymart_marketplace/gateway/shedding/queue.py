"""The requests of one model: so many run, some wait their turn, and one more is told at once when to come again.

A queue takes up a burst. One that stands helps nobody: everybody waits and no more is served. So the longest wait depends
on the queue's own past (Nichols and Jacobson, "Controlling Queue Delay", in the form of Maurer, "Fail at Scale", 2015):
a queue that was empty a moment ago lets requests wait for long, one that has stood for an interval does not.

Organizations take turns, so that one with a thousand requests does not keep another from its first.
"""

import asyncio
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from uuid import UUID

from raymart_core.errors import Overloaded

HEADROOM = 1.25
"""Requests for each slot: the next one is there when a slot becomes free. It waits in the engine's own queue."""
SHRINK = 0.8
GROWTHS = 16
"""A limit that was lowered is back after so many steps."""
STANDING_AFTER_S = 1.0
STANDING_SHARE = 0.1
"""Of the longest wait, once the queue has stood for `STANDING_AFTER_S`."""
MEAN_WEIGHT = 1 / 16
RETRY_AFTER_S_MAX = 60


class ModelBusy(Overloaded):
    """More is asked of a model than its endpoints can do; `retry_after_s` is the wait that is expected."""

    code = "model_overloaded"
    status = 503
    error_type = "server_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The bounds of each model's queue."""

    wait_s_max: float = 5.0
    """The longest wait, while the queue is no standing one."""
    waiting_per_slot: int = 8
    """Requests that may wait for each that runs; of one organization half of them."""
    waiting_min: int = 16
    waiting_max: int = 10_000
    """Whatever the slots: they take memory."""


@dataclass(slots=True, eq=False)
class _Waiter:
    woken: asyncio.Future[None]
    organization_id: UUID
    is_queued: bool = True


class ModelQueue:
    """Lets requests for one model run. Not for several threads."""

    def __init__(self, slug: str, limits: QueueLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.slug = slug
        self.running = 0
        """Requests that were let in and have not left."""
        self.waiting = 0
        self.limit = 0.0
        """Requests of this process that may run; 0 where nothing live is known, and then everybody may."""
        self.limit_until = 0.0
        """When the limit has to be looked at again, by the loop's clock."""
        self._limits = limits
        self._loop = loop
        self._waiters: OrderedDict[UUID, deque[_Waiter]] = OrderedDict()
        self._mean_s: float | None = None
        self._stands_since = 0.0
        self._shrunk_at = -math.inf

    @property
    def is_idle(self) -> bool:
        """Whether it can be forgotten."""
        return not self.running and not self.waiting

    def resize(self, *, slots: int, busy: int) -> None:
        """Take in what the market is now: `slots` of its live endpoints, `busy` of them, with whoever's requests.

        Several gateways share the endpoints without knowing of each other. Each lowers its limit by a fifth when together
        they ask too much, and raises it step by step otherwise, which ends in equal shares. Source: Chiu and Jain, 1989.
        """
        if slots == 0:
            self.limit = 0.0
            self.wake()
            return
        most = math.ceil(HEADROOM * slots)
        if busy > most and busy > self.running:
            self.shrink(floor=max(1.0, most / GROWTHS))
        elif self.limit == 0.0:
            self.limit = float(most)
        else:
            self.limit = min(float(most), self.limit + max(1.0, most / GROWTHS))
        self.wake()

    def shrink(self, *, floor: float = 1.0) -> None:
        """Lower the limit, once a second at most: replicas refuse, or others ask as well."""
        now = self._loop.time()
        if self.limit and now - self._shrunk_at >= 1.0:
            self._shrunk_at = now
            self.limit = max(floor, min(self.limit, max(1.0, float(self.running))) * SHRINK)

    def enter(self) -> bool:
        """Run at once, if there is room and nobody waits."""
        if self.waiting or (self.limit and self.running >= self.limit):
            return False
        self.running += 1
        return True

    async def wait(self, organization_id: UUID, *, left_s: float) -> None:
        """Wait for a turn, and run. Raises: ModelBusy, at once when the wait would be too long."""
        expected_s = self.expected_s()
        if expected_s > min(self._wait_s(), left_s) or not self._has_room(organization_id):
            raise self._refusal(expected_s)
        # Who was let into the queue is not sent away soon after: a refusal that comes late is worse than one at once.
        patience_s = min(self._limits.wait_s_max, left_s)
        waiter = _Waiter(self._loop.create_future(), organization_id)
        self._waiters.setdefault(organization_id, deque()).append(waiter)
        if not self.waiting:
            self._stands_since = self._loop.time()
        self.waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                await waiter.woken
        except TimeoutError:
            if self._given_up(waiter):
                raise self._refusal(max(1.0, self.expected_s())) from None
        except BaseException:
            if not self._given_up(waiter):
                self.leave(began_at=None)
            raise

    def leave(self, *, began_at: float | None) -> None:
        """A request that ran since `began_at` is over; None for one that never began."""
        assert self.running > 0
        self.running -= 1
        if began_at is not None:
            took_s = self._loop.time() - began_at
            self._mean_s = (
                took_s if self._mean_s is None else self._mean_s + MEAN_WEIGHT * (took_s - self._mean_s)
            )
        self.wake()

    def wake(self) -> None:
        """Let in as many as there is room for, the organizations in turn."""
        while self._waiters and (not self.limit or self.running < self.limit):
            organization_id, waiters = next(iter(self._waiters.items()))
            waiter = waiters.popleft()
            if waiters:
                self._waiters.move_to_end(organization_id)
            else:
                del self._waiters[organization_id]
            self.waiting -= 1
            waiter.is_queued = False
            if not waiter.woken.done():  # Cancelled, and its task has not run yet.
                self.running += 1
                waiter.woken.set_result(None)

    def expected_s(self) -> float:
        """How long one more would wait; 0 while nothing has been served that could tell."""
        if self._mean_s is None or not self.limit:
            return 0.0
        return (self.waiting + 1) * self._mean_s / max(1.0, self.limit)

    def _wait_s(self) -> float:
        is_standing = self.waiting and self._loop.time() - self._stands_since > STANDING_AFTER_S
        return self._limits.wait_s_max * (STANDING_SHARE if is_standing else 1.0)

    def _has_room(self, organization_id: UUID) -> bool:
        limits = self._limits
        most = min(limits.waiting_max, max(limits.waiting_min, int(limits.waiting_per_slot * self.limit)))
        return self.waiting < most and len(self._waiters.get(organization_id, ())) < max(1, most // 2)

    def _given_up(self, waiter: _Waiter) -> bool:
        """Take the waiter out; False when it was let in at that very moment."""
        if not waiter.is_queued:
            return waiter.woken.cancelled()
        waiter.is_queued = False
        waiters = self._waiters[waiter.organization_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.organization_id]
        self.waiting -= 1
        return True

    def _refusal(self, expected_s: float) -> ModelBusy:
        seconds = min(RETRY_AFTER_S_MAX, max(1, math.ceil(expected_s)))
        return ModelBusy(
            f"{self.slug} is busy: {self.running} requests run and {self.waiting} wait; try again in {seconds} s",
            retry_after_s=seconds,
        )
