"""What this process has seen of an endpoint: live figures that forget, and the breaker that follows from failures.

Each figure is a mean in which an observation counts half as much after `HALF_LIFE_S`; of two, histograms are kept too. With few observations of its own
an endpoint is taken to be like the others of its model (`PRIOR_WEIGHT`): one lucky answer makes nobody the fastest, and
who was slow once is tried again when that is old.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from msgspec import Struct

from raymart_marketplace.supply.breaker import MEMORY_S, Breaker
from raymart_marketplace.supply.histogram import DecayedHistogram, Observation
from raymart_marketplace.supply.live import Served

HALF_LIFE_S = 60.0
PRIOR_WEIGHT = 2.0
"""How many observations what is known of the model is worth."""


class Decayed:
    """A mean that forgets."""

    __slots__ = ("_at", "_sum", "_weight")

    def __init__(self) -> None:
        self._weight = 0.0
        self._sum = 0.0
        self._at = 0.0

    def add(self, value: float, now: float) -> None:
        """Count an observation."""
        kept = math.exp2((self._at - now) / HALF_LIFE_S)
        self._weight = self._weight * kept + 1.0
        self._sum = self._sum * kept + value
        self._at = now

    def weight(self, now: float) -> float:
        """How many fresh observations it is worth by now."""
        return self._weight * math.exp2((self._at - now) / HALF_LIFE_S)

    @property
    def mean(self) -> float | None:
        """None before the first observation."""
        return self._sum / self._weight if self._weight else None

    def near(self, prior: float | None, now: float) -> float | None:
        """The mean, drawn to `prior` the more the less has been seen of late; None where neither is known."""
        if not self._weight:
            return prior
        if prior is None:
            return self._sum / self._weight
        kept = math.exp2((self._at - now) / HALF_LIFE_S)
        return (self._sum * kept + prior * PRIOR_WEIGHT) / (self._weight * kept + PRIOR_WEIGHT)


class Figures:
    """The live figures of an endpoint, or of a model: all its endpoints."""

    __slots__ = (
        "failure",
        "first_token_ms",
        "first_token_ms_spread",
        "inter_token_ms",
        "tokens_per_s",
        "tokens_per_s_spread",
    )

    def __init__(self) -> None:
        self.first_token_ms = Decayed()
        """From the sending of the request."""
        self.first_token_ms_spread = DecayedHistogram()
        self.inter_token_ms = Decayed()
        self.tokens_per_s = Decayed()
        """Over the whole answer, the wait for its first token included."""
        self.tokens_per_s_spread = DecayedHistogram()
        self.failure = Decayed()
        """1 for what failed by the provider's fault, 0 for what was answered."""

    def answered(self, answer: "Answer", now: float) -> None:
        """Count an answer."""
        self.failure.add(0.0, now)
        if answer.first_token is not None:
            self.first_token_ms.add(answer.first_token_ms, now)
            self.first_token_ms_spread.add(answer.first_token)
        if answer.rate is not None:
            self.tokens_per_s.add(answer.tokens_per_s, now)
            self.tokens_per_s_spread.add(answer.rate)
        if answer.inter_token_ms is not None:
            self.inter_token_ms.add(answer.inter_token_ms, now)

    def failed(self, now: float) -> None:
        """Count a failure."""
        self.failure.add(1.0, now)


class Answer(Struct, gc=False):
    """What an answer tells, worked out once for its endpoint and its model."""

    first_token_ms: float = 0.0
    first_token: Observation | None = None
    """None where it had no first token."""
    tokens_per_s: float = 0.0
    rate: Observation | None = None
    """None where it had no tokens."""
    inter_token_ms: float | None = None

    @classmethod
    def of(cls, served: Served, now: float) -> Self:
        """That of what was `served`, at its end."""
        answer = cls()
        first_token_s, duration_s, tokens = served.first_token_s, served.duration_s, served.tokens
        if first_token_s is not None:
            answer.first_token_ms = first_token_s * 1000
            answer.first_token = Observation.of(answer.first_token_ms, now)
            if tokens > 1:
                answer.inter_token_ms = (duration_s - first_token_s) * 1000 / (tokens - 1)
        if tokens and duration_s > 0:
            answer.tokens_per_s = tokens / duration_s
            answer.rate = Observation.of(answer.tokens_per_s, now)
        return answer


@dataclass(slots=True, eq=False)
class TrackRecord:
    """What is known of one endpoint."""

    breaker: Breaker
    figures: Figures
    touched_at: float
    """When something was last added, by the monotonic clock."""


class TrackRecords:
    """Of all endpoints, across links: a node that reconnects keeps its record for `MEMORY_S`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._records: dict[UUID, TrackRecord] = {}
        self._models: dict[str, Figures] = {}

    def of(self, endpoint_id: UUID) -> TrackRecord:
        """The endpoint's record, a clean one where nothing is known."""
        record = self._records.get(endpoint_id)
        if record is None:
            record = self._records[endpoint_id] = TrackRecord(Breaker(), Figures(), self.clock())
        return record

    def of_model(self, slug: str) -> Figures:
        """The figures of all endpoints of a model."""
        return self._models.setdefault(slug, Figures())

    def served(self, record: TrackRecord, of_model: Figures, served: Served) -> None:
        """Count an answer, for the endpoint's `record` and for its model's figures."""
        now = self.clock()
        record.touched_at = now
        answer = Answer.of(served, now)
        record.figures.answered(answer, now)
        of_model.answered(answer, now)
        record.breaker.succeed(now)

    def failed(self, endpoint_id: UUID, model_slug: str | None, *, began_at: float) -> float:
        """Count a failure; seconds that the breaker opens for, 0 when that is no news. No model: it has left meanwhile."""
        now = self.clock()
        record = self.of(endpoint_id)
        record.touched_at = now
        record.figures.failed(now)
        if model_slug is not None:
            self.of_model(model_slug).failed(now)
        return record.breaker.fail(now, began_at=began_at)

    def forget(self, live: Callable[[UUID], bool]) -> None:
        """Drop the records of endpoints that have been gone for `MEMORY_S`."""
        old = self.clock() - MEMORY_S
        for endpoint_id in [
            key for key, record in self._records.items() if record.touched_at < old and not live(key)
        ]:
            del self._records[endpoint_id]
