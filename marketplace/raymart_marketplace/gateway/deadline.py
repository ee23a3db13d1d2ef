"""Bounded waits without a timer per wait.

A streamed request waits once per chunk. `asyncio.timeout` arms and cancels a timer each time; `Patience` keeps one timer
per request and moves only the moment at which it bites.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from raymart_core.errors import DeadlineExceeded, RaymartError

Result = TypeVar("Result")

LOOK_S = 3.0
"""When the timer fires first, at the latest: a request whose waits have limits of their own, the first of them mostly the
longest, would otherwise set it once for each. Most are over by then."""


class TimedOut(RaymartError):
    """A single wait was longer than its limit; the request's own deadline is not reached."""


class Patience:
    """Bounds the waits of one request, each by its own limit and all by the request's deadline.

    Waits follow one another, from whatever task; two at once are a mistake.
    """

    def __init__(self, *, total_s: float) -> None:
        """The deadline is `total_s` from now."""
        self._loop = asyncio.get_running_loop()
        self.deadline_at = self._loop.time() + total_s
        """On the loop's clock."""
        self._total_s = total_s
        self._until = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def beside(self) -> "Patience":
        """Another one with the same deadline, for waits at the same time."""
        other = Patience(total_s=self._total_s)
        other.deadline_at = self.deadline_at
        return other

    def left_s(self) -> float:
        """Seconds until the deadline, 0 when it is over."""
        left_s = self.deadline_at - self._loop.time()
        return max(0.0, left_s)

    async def wait(self, begin: Callable[[], Awaitable[Result]], *, limit_s: float) -> Result:
        """Await what `begin` returns, cancelled after `limit_s` seconds or at the deadline.

        Raises: TimedOut, DeadlineExceeded, and whatever is raised inside.
        """
        assert self._waiting is None, "one wait at a time"
        now = self._loop.time()
        if now >= self.deadline_at:
            raise self._deadline_exceeded()
        until = now + limit_s
        self._until = min(self.deadline_at, until)
        task = asyncio.current_task(self._loop)
        assert task is not None
        cancels_before = task.cancelling()
        if self._timer is None or self._timer_at > self._until:  # Asked here: it mostly is set already.
            self._arm(min(self._until, now + LOOK_S))
        self._waiting = task
        try:
            return await begin()
        except asyncio.CancelledError:
            if not self._expired:
                raise
            self._expired = False
            # As in asyncio.timeout: when somebody else has cancelled the task too, theirs comes first.
            if task.uncancel() > cancels_before:
                raise
            if self._until >= self.deadline_at:
                raise self._deadline_exceeded() from None
            raise TimedOut(f"no answer within {limit_s:g} s") from None
        finally:
            self._waiting = None

    def close(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        """Have the timer fire at `at`, no later than the wait is over; if nothing is due then it goes on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # The next wait arms again.
        if self._loop.time() < self._until:
            self._arm(self._until)
        elif not self._expired:
            self._expired = True
            self._waiting.cancel()

    def _deadline_exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the request ran past its deadline of {self._total_s:g} s")
