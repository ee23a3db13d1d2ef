"""How soon an endpoint begins to answer and how fast it generates, by percentiles; what is known, and what is wished."""

import math
from typing import NamedTuple, Protocol


class Percentiles(NamedTuple):
    """Of 100 answers so many were as good or better: not slower where a time is told, not below where a rate is."""

    p50: float
    p75: float
    p90: float
    p99: float

    def is_below(self, least: "Percentiles") -> bool:
        """Whether any is."""
        return self.p50 < least.p50 or self.p75 < least.p75 or self.p90 < least.p90 or self.p99 < least.p99

    def is_above(self, most: "Percentiles") -> bool:
        """Whether any is."""
        return self.p50 > most.p50 or self.p75 > most.p75 or self.p90 > most.p90 or self.p99 > most.p99


def at_least(
    *, p50: float | None = None, p75: float | None = None, p90: float | None = None, p99: float | None = None
) -> Percentiles | None:
    """The lowest acceptable figures; None, and 0 among others, is no wish."""
    limits = Percentiles(p50 or 0.0, p75 or 0.0, p90 or 0.0, p99 or 0.0)
    return limits if any(limits) else None


def at_most(
    *, p50: float | None = None, p75: float | None = None, p90: float | None = None, p99: float | None = None
) -> Percentiles | None:
    """The highest acceptable figures; None, and infinity among others, is no wish."""
    given = (p50, p75, p90, p99)
    if given == (None, None, None, None):
        return None
    return Percentiles(*(math.inf if limit is None else limit for limit in given))


class Pace(Protocol):
    """Percentiles of the last minutes; what they are made of is computed when they are read, which few do."""

    @property
    def first_token_ms(self) -> Percentiles | None:
        """How long first tokens took, from the sending of the request; None when nothing is known of the model."""

    @property
    def tokens_per_s(self) -> Percentiles | None:
        """How fast answers were generated, the wait for the first token included; likewise."""


class KnownPace(NamedTuple):
    """A pace that does not change."""

    first_token_ms: Percentiles | None = None
    tokens_per_s: Percentiles | None = None


UNKNOWN_PACE = KnownPace()
