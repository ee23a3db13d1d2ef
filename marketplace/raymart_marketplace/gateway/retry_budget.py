"""How many attempts beyond the first this process may make, so that retries never multiply an outage.

Each request earns a fifth of a retry, good for ten seconds; beside that there is a small reserve, so that a market with
little traffic can retry at all. Source: Finagle's retry budget (20 %, at least 10 a second, 10 s), SRE book, chapter 22.
"""

import time
from collections.abc import Callable

SHARE = 0.2
RESERVE_PER_S = 10.0
WINDOW_S = 10


class RetryBudget:
    """Counts requests and retries of the last ten seconds. One per process; for one event loop.

    Promises: in any window, retries <= `share` x requests + `reserve_per_s` x the window. A retry is whatever asks another
    endpoint for the same request, before its first token or after, but for the one that takes up the work of an endpoint
    that died in mid-stream: it does what is no longer done. One asked beside the first (`hedging`) is a retry too.
    """

    def __init__(
        self,
        *,
        share: float = SHARE,
        reserve_per_s: float = RESERVE_PER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._reserve = reserve_per_s * WINDOW_S
        self._monotonic = monotonic
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._second = int(monotonic())

    def earn(self) -> None:
        """Count a request that was let in."""
        self._requests[self._now()] += 1

    def spend(self, *, most: float = 1.0) -> bool:
        """Take one retry; False, and nothing is taken, when none is left or more than the share `most` of all would be gone."""
        slot = self._now()
        if sum(self._retries) + 1 > most * (self._share * sum(self._requests) + self._reserve):
            return False
        self._retries[slot] += 1
        return True

    def _now(self) -> int:
        """The present second's place on the ring; what is older than the window is forgotten."""
        second = int(self._monotonic())
        if second != self._second:
            for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
                self._requests[passed % WINDOW_S] = self._retries[passed % WINDOW_S] = 0
            self._second = second
        return second % WINDOW_S
