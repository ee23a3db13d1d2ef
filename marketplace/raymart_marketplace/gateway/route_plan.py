"""Where a request would go, and why not elsewhere. The gateway serves by it and the API explains by it: one function."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from raymart_core.errors import DomainError, InvalidRequest, NoEndpoint
from raymart_core.ids import Prefix, show
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.routing.preference import RoutingPreference
from raymart_marketplace.routing.route import Needs, Reason, Rejection, Routing, candidates
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """The decision for one request at one moment."""

    routing: Routing
    """Every live endpoint of the model, ranked or rejected."""
    tried: Sequence[LiveEndpoint]
    """Those that would be tried, best first; the hold covers the dearest of them."""
    refusal: DomainError | None
    """Why the request is refused when nothing can be tried."""


class Plan(Protocol):
    """Finds the way of a request; `Inference.plan`, for whatever else is sold."""

    async def __call__(
        self, preference: RoutingPreference, needs: Needs, /, *, modalities: Collection[Modality]
    ) -> RoutePlan:
        """The decision for a request that a model for any of `modalities` can answer. Raises: ModelNotFound, Unavailable."""


def plan_route(
    directory: EndpointDirectory,
    preference: RoutingPreference,
    needs: Needs,
    *,
    modalities: Collection[Modality],
    attempts_max: int,
) -> RoutePlan:
    """Route a request, which a model for any of `modalities` can answer, to a model which exists."""
    live = directory.live(needs.model_slug)
    # All endpoints of a model are for the same organizations. For others it is as if there were no such model.
    if live and not live[0].is_for(needs.organization_id):
        live = ()
    # All endpoints of a model make the same. A replica would refuse too, and be blamed for it.
    if live and live[0].modality not in modalities:
        return _other_modality(live, modalities)
    routing = candidates(live, preference, needs)
    return RoutePlan(
        routing=routing,
        tried=routing.ranked[:attempts_max],
        refusal=None if routing.ranked else _nowhere(needs.model_slug, routing),
    )


def _other_modality(live: Sequence[LiveEndpoint], modalities: Collection[Modality]) -> RoutePlan:
    """Of a model that makes something else."""
    slug, makes = live[0].model_slug, live[0].modality
    wanted = " or ".join(sorted(modality.value for modality in modalities))
    detail = f"{slug} is a model for {makes.value}, not for {wanted}"
    rejected = tuple(Rejection(endpoint=endpoint, reason=Reason.MODALITY, detail=detail) for endpoint in live)
    return RoutePlan(
        routing=Routing(ranked=(), rejected=rejected), tried=(), refusal=InvalidRequest(detail, param="model")
    )


def _nowhere(slug: str, routing: Routing) -> DomainError:
    """Why no endpoint was acceptable."""
    rejected = routing.rejected
    if rejected and all(rejection.reason is Reason.CONTEXT for rejection in rejected):
        longest = max(rejection.endpoint.context_length for rejection in rejected)
        return InvalidRequest(
            f"the longest context that serves {slug} has {longest} tokens, for prompt and answer together; "
            "lower max_tokens",
            param="max_tokens",
        )
    reasons = [
        f"{rejection.endpoint.provider_slug} ({show(Prefix.ENDPOINT, rejection.endpoint.id)}): {rejection.detail}"
        for rejection in rejected
    ]
    if not reasons:
        reasons = [f"no provider serves {slug} at the moment"]
    return NoEndpoint(f"no endpoint can serve {slug} as asked: {'; '.join(reasons[:5])}", reasons=reasons)
