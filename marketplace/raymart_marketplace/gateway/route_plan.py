"""Where a request would go, and why not elsewhere. The gateway serves by `plan_route`; the API explains by `explain_route`.

Both judge by `routing.route.verdict` and rank by `routing.ranking`. To serve, a few endpoints are looked at; to explain,
all of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from raymart_core.errors import DomainError, InvalidRequest, NoEndpoint
from raymart_core.ids import Prefix, show
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.candidates import Candidates
from raymart_marketplace.routing.market import Market, Rejections, Row
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.routing.ranking import Routing, candidates
from raymart_marketplace.routing.route import Needs, Reason, Rejection
from raymart_marketplace.routing.toss import Toss
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint


class Trace(Struct, frozen=True, kw_only=True, gc=False):
    """How a decision came about: with it, and the market as it was, it can be made again."""

    sort: Sort
    """The strategy."""
    toss: Toss
    """What was chance."""
    looked_at: int
    """Endpoints that were judged."""
    is_last_resort: bool
    """Whether those chosen had failed a moment ago: nothing better was left."""


class RoutePlan(Struct, frozen=True, kw_only=True):
    """The decision for one request at one moment."""

    tried: Sequence[LiveEndpoint]
    """Those that would be tried, best first; the hold covers the dearest of them."""
    refusal: DomainError | None
    """Why the request is refused when nothing can be tried."""
    trace: Trace | None = None
    """None where nothing serves the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """The same in full."""

    plan: RoutePlan
    routing: Routing
    """Every live endpoint of the model, ranked or rejected."""


class Plan(Protocol):
    """Finds the way of a request; `Planner.plan`, for whatever else is sold."""

    async def __call__(
        self, preference: RoutingPreference, needs: Needs, /, *, modalities: Collection[Modality]
    ) -> RoutePlan:
        """The decision for a request that a model for any of `modalities` can answer. Raises: ModelNotFound, Unavailable."""


NOWHERE = Routing(ranked=(), rejected=())
"""Of a model that nothing serves."""


def plan_route(
    directory: EndpointDirectory,
    preference: RoutingPreference,
    needs: Needs,
    *,
    modalities: Collection[Modality],
    attempts_max: int,
    sort: Sort,
    seed: int,
) -> RoutePlan:
    """Route a request, which a model for any of `modalities` can answer, to a model which exists.

    `sort` decides where the customer does not wish; `seed` is 64 bits of chance.
    """
    market = directory.market(needs.model_slug)
    row = _row_for(market, needs)
    if market is None or row is None:
        return RoutePlan(tried=(), refusal=_unserved(needs))
    refusal = _other_modality(row, needs, modalities)
    if refusal is not None:
        return RoutePlan(tried=(), refusal=refusal)
    toss = Toss(seed, market.cursor)
    choice = market.choose(preference, needs, sort=sort, toss=toss, wanted=attempts_max)
    return RoutePlan(
        tried=Candidates(choice.rows),
        refusal=None if choice.rows else _nowhere(market.rejections(preference, needs), needs),
        trace=Trace(
            sort=choice.sort, toss=toss, looked_at=choice.looked_at, is_last_resort=choice.is_last_resort
        ),
    )


def explain_route(
    directory: EndpointDirectory,
    preference: RoutingPreference,
    needs: Needs,
    *,
    modalities: Collection[Modality],
    attempts_max: int,
    sort: Sort,
    seed: int,
) -> RouteReport:
    """What `plan_route` would do, with every endpoint and its score or reason. Looks at all: milliseconds at size."""
    market = directory.market(needs.model_slug)
    any_row = _row_for(market, needs)
    if market is None or any_row is None:
        return RouteReport(plan=RoutePlan(tried=(), refusal=_unserved(needs)), routing=NOWHERE)
    live = [row.snapshot() for row in market if row.is_sold]
    refusal = _other_modality(any_row, needs, modalities)
    if refusal is not None:
        rejected = tuple(
            Rejection(endpoint=each, reason=Reason.MODALITY, detail=refusal.message) for each in live
        )
        routing = Routing(ranked=(), rejected=rejected)
        return RouteReport(plan=RoutePlan(tried=(), refusal=refusal), routing=routing)
    toss = Toss(seed, market.cursor)
    routing = candidates(live, preference, needs, sort=sort, toss=toss)
    plan = RoutePlan(
        tried=routing.ranked[:attempts_max],
        refusal=None if routing.ranked else _nowhere(market.rejections(preference, needs), needs),
        trace=Trace(
            sort=preference.sort or sort,
            toss=toss,
            looked_at=len(live),
            is_last_resort=routing.is_last_resort,
        ),
    )
    return RouteReport(plan=plan, routing=routing)


def _row_for(market: Market | None, needs: Needs) -> Row | None:
    """Any endpoint of the model; None where nothing serves it, or nothing that is for the customer."""
    row = None if market is None else market.any_row()
    # All endpoints of a model are for the same organizations. For others it is as if there were no such model.
    return row if row is not None and row.is_for(needs.organization_id) else None


def _other_modality(row: Row, needs: Needs, modalities: Collection[Modality]) -> InvalidRequest | None:
    """Of a model that makes something else. All its endpoints do; a replica would refuse too, and be blamed for it."""
    makes = row.modality
    if makes in modalities:
        return None
    wanted = " or ".join(sorted(modality.value for modality in modalities))
    return InvalidRequest(f"{needs.model_slug} is a model for {makes.value}, not for {wanted}", param="model")


def _unserved(needs: Needs) -> NoEndpoint:
    reason = f"no provider serves {needs.model_slug} at the moment"
    return NoEndpoint(f"no endpoint can serve {needs.model_slug} as asked: {reason}", reasons=[reason])


def _nowhere(why: Rejections, needs: Needs) -> DomainError:
    """Why no endpoint was acceptable."""
    if not why.first:
        return _unserved(needs)
    slug = needs.model_slug
    if why.context_max is not None:
        return InvalidRequest(
            f"the longest context that serves {slug} has {why.context_max} tokens, for prompt and answer together; "
            "lower max_tokens",
            param="max_tokens",
        )
    reasons = [
        f"{row.provider_slug} ({show(Prefix.ENDPOINT, row.id)}): {found.detail}" for row, found in why.first
    ]
    if why.others:
        counts = ", ".join(f"{reason.value} {count}" for reason, count in why.others.most_common())
        reasons.append(f"{why.others.total()} more: {counts}")
    return NoEndpoint(f"no endpoint can serve {slug} as asked: {'; '.join(reasons[:5])}", reasons=reasons)
