"""What one link may use. Over a limit is RESET (a stream) or Refuse (the link), never silence."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from raymart_core.wire.link import STREAMS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """Limits of one link. DATA of an open stream is bounded by its window, everything else by these."""

    step_timeout_s: float = 10.0
    """Wait for each message of the handshake, and for each write."""
    handshakes_max: int = 256
    """Unproven connections at once, over all links."""
    streams_max: int = STREAMS_MAX
    """Open streams on a link."""
    buffered_bytes_max: int = 64 * 1024 * 1024
    """DATA that waits for slow consumers, over all streams of a link; the stream that goes over it is reset."""
    control_per_s: float = 50.0
    """Control messages a node may send, as a rate; bursts of four seconds pass."""
    strays_per_s: float = 5_000.0
    """Frames that need no credit (WINDOW, or for streams already over), as a rate; bursts of four seconds pass."""
    replicas_max: int = 256
    """Replicas in one `Announce`."""
    capacity_max: int = 1_024
    """Generations at once that one replica may claim."""
    recheck_s: float = 10.0
    """How often a live node is marked seen and its revocation looked up."""


class TokenBucket:
    """A rate with bursts: `rate_per_s` tokens a second, at most four seconds' worth kept."""

    __slots__ = ("_capacity", "_clock", "_level", "_rate_per_s", "_updated_at")

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = 4 * rate_per_s
        self._level = self._capacity
        self._clock = clock
        self._updated_at = clock()

    def take(self) -> bool:
        """Spend one token; False when there is none."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._updated_at) * self._rate_per_s)
        self._updated_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
