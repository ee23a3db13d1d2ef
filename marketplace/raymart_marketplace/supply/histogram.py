"""A histogram that forgets: which values a figure has had of late, and how often.

Bins grow by a fifth, so that a percentile is told by the geometric middle of its bin: within 10 % of the true one
(sqrt(1.2) = 1.095) from `LEAST` to `MOST`. What lies outside counts in the outermost bin and is told as that bin's middle.

Old observations are never touched when one is added; instead a new one weighs more than those before it, and whoever
reads divides by what a fresh one weighs.
Source: Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay model for streaming systems", 2009.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

KNOWN_S = 2.0
"""How long what was computed of a histogram is used again."""
WINDOW_S = 300.0
"""OpenRouter judges by the last five minutes."""
HALF_LIFE_S = WINDOW_S * math.log(2) / 2
"""104 s: observations are then as old on the mean, and worth as many, as those of a window of `WINDOW_S` are."""
GROWTH = 1.2
BINS = 90
LEAST = 0.1
MOST = LEAST * GROWTH**BINS
"""1.3 million: 22 minutes in milliseconds."""
MIDDLES = tuple(LEAST * GROWTH ** (number + 0.5) for number in range(BINS))
"""What each bin is told as."""
_AGE_MAX = 60.0
"""Half-lives after which weights are counted anew, long before they leave the range of a 32-bit float."""
_PER_E = 1.0 / math.log(GROWTH)
_LOG_LEAST = math.log(LEAST)
_ROUNDING = 1.0 - 1e-9


class Spread(NamedTuple):
    """How often values were near which: weights of bins."""

    first: int
    """The bin of the first weight."""
    weights: Sequence[float]
    """Of this and the bins after it, as far as anything was counted."""

    def percentiles(self, shares: Iterable[float]) -> tuple[float, ...] | None:
        """For each of `shares`, 0 to 1, what so much of the weight does not exceed; None where nothing was counted."""
        if not self.weights:
            return None
        reached = list(accumulate(self.weights))
        # A billionth less: what is reached but for rounding is reached.
        total = reached[-1] * _ROUNDING
        return tuple([MIDDLES[self.first + bisect_left(reached, share * total)] for share in shares])


NOTHING = Spread(0, ())


class DecayedHistogram:
    """Of a positive figure; 0.5 KB. Times are of one monotonic clock."""

    __slots__ = ("_began_at", "_known", "_known_until", "_weights")

    def __init__(self) -> None:
        self._weights = array("f", bytes(4 * BINS))
        self._began_at = 0.0
        self._known = NOTHING
        self._known_until = -math.inf

    def add(self, value: float, now: float) -> None:
        """Count an observation."""
        age = (now - self._began_at) / HALF_LIFE_S
        if age > _AGE_MAX:
            self._begin_anew(now)
            age = 0.0
        self._weights[bin_of(value)] += math.exp2(age)

    def spread(self, now: float) -> Spread:
        """What was seen; weights are shares, 0 to 1. As it was `KNOWN_S` ago at most."""
        if now >= self._known_until:
            self._known, self._known_until = _shares(self._weights), now + KNOWN_S
        return self._known

    def near(self, prior: "DecayedHistogram", now: float, *, prior_weight: float) -> Spread:
        """The spread, as if `prior_weight` fresh observations more were spread as those of `prior` are.

        `prior` has seen all that this has. What it has seen first within the last `KNOWN_S` may be left out.
        """
        whole = prior.spread(now)
        scale = self._kept(now) / prior_weight
        own = self._weights[whole.first : whole.first + len(whole.weights)]
        weights = [scale * weight + share for weight, share in zip(own, whole.weights, strict=True)]
        return Spread(whole.first, weights)

    def _kept(self, now: float) -> float:
        return math.exp2((self._began_at - now) / HALF_LIFE_S)

    def _begin_anew(self, now: float) -> None:
        kept = self._kept(now)
        self._weights = array("f", [kept * weight for weight in self._weights])
        self._began_at = now


def bin_of(value: float) -> int:
    """Where `value` is counted; the first and the last bin take what is beyond them too."""
    if value <= LEAST:
        return 0
    if value >= MOST:
        return BINS - 1
    return min(int((math.log(value) - _LOG_LEAST) * _PER_E), BINS - 1)


def _shares(weights: Sequence[float]) -> Spread:
    total = sum(weights)
    if not total:
        return NOTHING
    counted = [number for number, weight in enumerate(weights) if weight]
    first, last = counted[0], counted[-1]
    return Spread(first, [weight / total for weight in weights[first : last + 1]])
