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
from typing import NamedTuple, Self

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
EPOCH_S = 60 * HALF_LIFE_S
"""Weights are of the beginning of such an epoch, and counted anew in each, before they leave the range of a 32-bit float."""
_PER_E = 1.0 / math.log(GROWTH)
_LOG_LEAST = math.log(LEAST)
_ROUNDING = 1.0 - 2e-5
"""What hundreds of sums of 32-bit floats may lose, and far less than one observation of a thousand that count is."""


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
        # What is reached but for rounding is reached.
        total = reached[-1] * _ROUNDING
        return tuple([MIDDLES[self.first + bisect_left(reached, share * total)] for share in shares])


NOTHING = Spread(0, ())


class Observation(NamedTuple):
    """What an observation is in every histogram that counts it."""

    bin: int
    epoch: int
    weight: float
    """Measured by one at the beginning of the epoch."""

    @classmethod
    def of(cls, value: float, now: float) -> Self:
        """A `value` seen `now`."""
        epoch = int(now // EPOCH_S)
        return cls(bin_of(value), epoch, math.exp2((now - epoch * EPOCH_S) / HALF_LIFE_S))


class DecayedHistogram:
    """Of a positive figure; 0.5 KB. Times are of one monotonic clock."""

    __slots__ = ("_epoch", "_known", "_known_until", "_weights")

    def __init__(self) -> None:
        self._weights = array("f", bytes(4 * BINS))
        self._epoch = 0
        self._known = NOTHING
        self._known_until = -math.inf

    def add(self, observation: Observation) -> None:
        """Count an observation, later than those before it."""
        number, epoch, weight = observation
        if epoch != self._epoch:
            self._begin(epoch)
        self._weights[number] += weight

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
        return math.exp2((self._epoch * EPOCH_S - now) / HALF_LIFE_S)

    def _begin(self, epoch: int) -> None:
        kept = self._kept(epoch * EPOCH_S)
        self._weights = array("f", [kept * weight for weight in self._weights])
        self._epoch = epoch


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
