"""The pace of one endpoint as this process has measured it."""

import math
from collections.abc import Callable

from raymart_marketplace.supply.histogram import KNOWN_S, DecayedHistogram
from raymart_marketplace.supply.pace import Percentiles
from raymart_marketplace.supply.track_record import PRIOR_WEIGHT, Figures

_LOWEST_FIRST = (0.50, 0.75, 0.90, 0.99)
_HIGHEST_FIRST = tuple(1.0 - share for share in _LOWEST_FIRST)


class _Spread:
    """How one figure of an endpoint is spread. Drawn to its model's as its mean is (`Decayed.near`)."""

    __slots__ = ("_known", "_known_until", "_of_model", "_own", "_shares")

    def __init__(self, own: DecayedHistogram, of_model: DecayedHistogram, shares: tuple[float, ...]) -> None:
        self._own = own
        self._of_model = of_model
        self._shares = shares
        self._known: Percentiles | None = None
        self._known_until = -math.inf

    def percentiles(self, now: float) -> Percentiles | None:
        """As they were `KNOWN_S` ago at most; the model's share in them twice that."""
        if now >= self._known_until:
            spread = self._own.near(self._of_model, now, prior_weight=PRIOR_WEIGHT)
            found = spread.percentiles(self._shares)
            self._known = None if found is None else Percentiles(*found)
            self._known_until = now + KNOWN_S
        return self._known


class MeasuredPace:
    """Implements `supply.pace.Pace`. Nothing is computed, nor kept of it, for an endpoint of which nobody asks."""

    __slots__ = ("_clock", "_figures", "_first_token_ms", "_of_model", "_tokens_per_s")

    def __init__(self, figures: Figures, of_model: Figures, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first_token_ms = _Spread(
            figures.first_token_ms_spread, of_model.first_token_ms_spread, _LOWEST_FIRST
        )
        self._tokens_per_s = _Spread(
            figures.tokens_per_s_spread, of_model.tokens_per_s_spread, _HIGHEST_FIRST
        )

    @property
    def first_token_ms(self) -> Percentiles | None:
        """How long first tokens took of late."""
        return self._first_token_ms.percentiles(self._clock())

    @property
    def tokens_per_s(self) -> Percentiles | None:
        """How fast answers were generated of late."""
        return self._tokens_per_s.percentiles(self._clock())
