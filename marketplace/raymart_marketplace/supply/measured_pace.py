"""The pace of one endpoint as this process has measured it."""

import math
from collections.abc import Callable

from raymart_marketplace.supply.histogram import KNOWN_S, DecayedHistogram
from raymart_marketplace.supply.pace import Percentiles
from raymart_marketplace.supply.track_record import PRIOR_WEIGHT, Figures

_LOWEST_FIRST = (0.50, 0.75, 0.90, 0.99)
_HIGHEST_FIRST = tuple(1.0 - share for share in _LOWEST_FIRST)


class MeasuredPace:
    """Implements `supply.pace.Pace`: percentiles as they were `KNOWN_S` ago at most, the model's part in them twice that.

    Nothing is computed for an endpoint of which nobody asks. Flat, because a decision may read those of 64 endpoints.
    """

    __slots__ = ("_clock", "_figures", "_of_model", "_rate", "_rate_until", "_wait", "_wait_until")

    def __init__(self, figures: Figures, of_model: Figures, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._figures = figures
        self._of_model = of_model
        self._wait: Percentiles | None = None
        self._wait_until = -math.inf
        self._rate: Percentiles | None = None
        self._rate_until = -math.inf

    @property
    def first_token_ms(self) -> Percentiles | None:
        """How long first tokens took of late."""
        now = self._clock()
        if now >= self._wait_until:
            own, of_model = self._figures.first_token_ms_spread, self._of_model.first_token_ms_spread
            self._wait, self._wait_until = _read(own, of_model, now, _LOWEST_FIRST), now + KNOWN_S
        return self._wait

    @property
    def tokens_per_s(self) -> Percentiles | None:
        """How fast answers were generated of late."""
        now = self._clock()
        if now >= self._rate_until:
            own, of_model = self._figures.tokens_per_s_spread, self._of_model.tokens_per_s_spread
            self._rate, self._rate_until = _read(own, of_model, now, _HIGHEST_FIRST), now + KNOWN_S
        return self._rate


def _read(
    own: DecayedHistogram, of_model: DecayedHistogram, now: float, shares: tuple[float, ...]
) -> Percentiles | None:
    """Drawn to the model's as means are (`Decayed.near`)."""
    found = own.near(of_model, now, prior_weight=PRIOR_WEIGHT).percentiles(shares)
    return None if found is None else Percentiles._make(found)
