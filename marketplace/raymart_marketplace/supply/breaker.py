"""The circuit breaker of one endpoint: closed, open after a failure, half-open when it may be tried again.

A failure opens it for 2 s, which double to 60 s while the tries that follow fail too. When the time is over, one request
at a time tries the endpoint (half-open): its success closes the breaker and forgets, its failure opens it for longer.
Requests that ran together fail together: only one that began after the breaker opened last counts against it again.
"""

from enum import StrEnum

FIRST_S = 2.0
LONGEST_S = 60.0
MEMORY_S = 600.0
"""A failure older than this is forgotten even when no success followed it."""


class BreakerState(StrEnum):
    """Whether requests go through."""

    CLOSED = "closed"
    """All do."""
    OPEN = "open"
    """None does, unless nothing better is left."""
    HALF_OPEN = "half_open"
    """One at a time does."""


class Breaker:
    """One endpoint's, across links: a node that reconnects does not start with a clean sheet. Times are monotonic."""

    __slots__ = ("_opened_at", "_trying", "failures", "until")

    def __init__(self) -> None:
        self.failures = 0
        """In a row; while there are none it refuses nothing, whatever the time."""
        self._opened_at = 0.0
        self._trying = False
        self.until = 0.0
        """When it may be tried again."""

    def state(self, now: float) -> BreakerState:
        """Its state at the moment `now`."""
        if not self.failures:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN

    def refuses(self, now: float) -> bool:
        """Whether a request should go elsewhere: it is open, or another request tries it."""
        return self.failures > 0 and (self._trying or now < self.until)

    def enter(self, now: float) -> bool:
        """A request goes to the endpoint; whether it is the one that tries it, and has to `leave`."""
        if not self.failures or self._trying or now < self.until:
            return False
        self._trying = True
        return True

    def leave(self) -> None:
        """The request that tried is over, however it ended."""
        self._trying = False

    def fail(self, now: float, *, began_at: float) -> float:
        """Count a failure of a request that began at `began_at`; seconds that the breaker opens for, 0 if it had done so."""
        if self.failures and began_at < self._opened_at:
            return 0.0
        if now - self.until > MEMORY_S:
            self.failures = 0
        self.failures += 1
        # The exponent is capped before the power, or a long-broken endpoint would overflow a float.
        open_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures - 1, 10))
        self._opened_at, self.until = now, now + open_s
        return open_s

    def succeed(self, now: float) -> None:
        """Count a good end. While the breaker is open it may be of before, and says nothing."""
        if now >= self.until:
            self.failures = 0
