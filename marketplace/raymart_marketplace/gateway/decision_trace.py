"""How one answer came about: who could have served it, who was ruled out and why, and what was tried. On request only.

With the strategy and the seed, and the market as it was, `explainRoute` decides the same again.
"""

from collections.abc import Sequence

import msgspec

from raymart_core.ids import Prefix, show
from raymart_core.ports import AttemptRecord
from raymart_marketplace.gateway.hedge import Hedge
from raymart_marketplace.gateway.request_life import AttemptT, Life
from raymart_marketplace.gateway.route_plan import RoutePlan, RouteReport
from raymart_marketplace.supply.live import LiveEndpoint

SHOWN_MAX = 50
"""Endpoints of each kind that are listed; the others are counted."""


class Candidate(msgspec.Struct):
    """An endpoint that could have served, best first."""

    endpoint: str
    provider: str
    region: str
    score: float
    """By the strategy; the lowest is the best."""
    chosen: bool
    """Whether it was among those to be tried."""


class RuledOut(msgspec.Struct):
    """An endpoint that could not."""

    endpoint: str
    provider: str
    reason: str
    detail: str


class Tried(msgspec.Struct):
    """One attempt, in the order of their ends."""

    endpoint: str
    provider: str | None
    """None of one that came to the market after the decision."""
    outcome: str
    fault: str
    reason: str
    tokens_delivered: int
    first_token_ms: int | None
    duration_ms: int


class TraceObject(msgspec.Struct):
    """As it is told."""

    strategy: str
    seed: str
    """16 hexadecimal digits."""
    considered: int
    """Live endpoints of the model."""
    is_last_resort: bool
    """Whether all that could serve had failed a moment ago."""
    candidates: list[Candidate]
    ruled_out: list[RuledOut]
    not_shown: int
    hedge: Hedge
    """What became of `provider.hedge`."""
    attempts: list[Tried]


_encode = msgspec.json.Encoder().encode


class DecisionTrace:
    """Is filled while a request is served, by whoever serves it; of several that are tried the last one counts."""

    def __init__(self) -> None:
        self._plan: RoutePlan | None = None
        self._report: RouteReport | None = None
        self._hedge = Hedge.OFF
        self._attempts: Sequence[AttemptRecord] = ()

    def routed(self, plan: RoutePlan, report: RouteReport) -> None:
        """Take the decision, and the same in full."""
        self._plan, self._report = plan, report

    def ended(self, life: Life[AttemptT]) -> None:
        """Take what was tried. Call when the end of `life` is decided."""
        self._hedge = life.hedge
        if life.final is not None:
            self._attempts = life.final.attempts

    def field(self) -> bytes:
        """`"routing": {...}`, to be put into a JSON object; empty when nothing was decided."""
        if self._plan is None or self._report is None or self._plan.trace is None:
            return b""
        return b'"routing":%b' % _encode(self._object(self._plan, self._report))

    def _object(self, plan: RoutePlan, report: RouteReport) -> TraceObject:
        assert plan.trace is not None
        ranked, rejected = report.routing.ranked, report.routing.rejected
        chosen = {each.id for each in plan.tried}
        known = {each.id: each for each in (*ranked, *(rejection.endpoint for rejection in rejected))}
        return TraceObject(
            strategy=plan.trace.sort.value,
            seed=f"{plan.trace.toss.seed:016x}",
            considered=len(ranked) + len(rejected),
            is_last_resort=plan.trace.is_last_resort,
            candidates=[
                Candidate(
                    endpoint=show(Prefix.ENDPOINT, each.id),
                    provider=each.provider_slug,
                    region=each.region,
                    score=score,
                    chosen=each.id in chosen,
                )
                for each, score in list(zip(ranked, report.routing.scores, strict=True))[:SHOWN_MAX]
            ],
            ruled_out=[
                RuledOut(
                    endpoint=show(Prefix.ENDPOINT, each.endpoint.id),
                    provider=each.endpoint.provider_slug,
                    reason=each.reason.value,
                    detail=each.detail,
                )
                for each in rejected[:SHOWN_MAX]
            ],
            not_shown=max(0, len(ranked) - SHOWN_MAX) + max(0, len(rejected) - SHOWN_MAX),
            hedge=self._hedge,
            attempts=[_tried(each, known.get(each.endpoint_id)) for each in self._attempts],
        )


def _tried(attempt: AttemptRecord, endpoint: LiveEndpoint | None) -> Tried:
    return Tried(
        endpoint=show(Prefix.ENDPOINT, attempt.endpoint_id),
        provider=None if endpoint is None else endpoint.provider_slug,
        outcome=attempt.outcome,
        fault=attempt.fault.value,
        reason=attempt.reason,
        tokens_delivered=attempt.tokens_delivered,
        first_token_ms=attempt.first_token_ms,
        duration_ms=attempt.duration_ms,
    )
