"""How long an endpoint that failed is kept out of routing: 2 s after the first failure, doubling to 60 s."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

FIRST_S = 2.0
LONGEST_S = 60.0
MEMORY_S = 600.0
"""A failure older than this is forgotten even when no success followed it."""


@dataclass(slots=True, kw_only=True)
class _Strikes:
    count: int
    until: float


class Quarantine:
    """Remembers failures per endpoint, across links: a node that reconnects does not start with a clean sheet."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._strikes: dict[UUID, _Strikes] = {}

    def holds(self, endpoint_id: UUID) -> bool:
        """Whether the endpoint is kept out of routing now."""
        strikes = self._strikes.get(endpoint_id)
        return strikes is not None and self._clock() < strikes.until

    def fail(self, endpoint_id: UUID) -> float:
        """Count a failure; the seconds of quarantine that it starts, 0 when one is already running.

        Requests that were in flight together fail together; they are one failure of the endpoint.
        """
        now = self._clock()
        strikes = self._strikes.get(endpoint_id)
        if strikes is not None and now < strikes.until:
            return 0.0
        count = 1 if strikes is None or now - strikes.until > MEMORY_S else strikes.count + 1
        # The exponent is capped before the power, or a long-broken endpoint would overflow a float.
        period_s = min(LONGEST_S, FIRST_S * 2.0 ** min(count - 1, 10))
        self._strikes[endpoint_id] = _Strikes(count=count, until=now + period_s)
        self._forget_old(now)
        return period_s

    def succeed(self, endpoint_id: UUID) -> None:
        """Count a good attempt: ends the memory of failures, unless the quarantine still runs."""
        strikes = self._strikes.get(endpoint_id)
        if strikes is not None and self._clock() >= strikes.until:
            del self._strikes[endpoint_id]

    def _forget_old(self, now: float) -> None:
        for endpoint_id in [key for key, value in self._strikes.items() if now - value.until > MEMORY_S]:
            del self._strikes[endpoint_id]
