"""The routing decision: a pure function over snapshots of live endpoints.

Every endpoint is either ranked or rejected with one named reason, so that a 503 can say why and a decision can be
replayed. The same set of endpoints gives the same ranking in whatever order it is passed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.supply.live import LiveEndpoint


class Reason(StrEnum):
    """Why an endpoint was left out; checked in this order."""

    MODEL = "model"
    """It serves another model."""
    NOT_IN_ONLY = "not_in_only"
    """The customer named the only acceptable providers."""
    IGNORED = "ignored"
    """The customer ruled the provider out."""
    NOT_IN_ORDER = "not_in_order"
    """The customer named an order and forbade fallbacks."""
    PRICE = "max_price"
    """It costs more per token than the customer accepts."""
    CONTEXT = "context"
    """Its context cannot hold what is asked for."""
    QUARANTINED = "quarantined"
    """It failed a moment ago."""
    FALLBACK = "fallback"
    """Another provider ranks first and the customer forbade fallbacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the request needs of an endpoint; counts in tokens."""

    model_slug: str
    tokens_prompt_max: int
    """Upper bound of the prompt; weighs the prompt's price."""
    tokens_completion_max: int | None
    """What the customer limits the answer to; None for what the context leaves."""
    tokens_min: int
    """Least context that can hold the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An endpoint that was left out."""

    endpoint: LiveEndpoint
    reason: Reason
    detail: str
    """A sentence with value and limit, safe to show to the customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The decision: every endpoint passed in is in exactly one of the two."""

    ranked: tuple[LiveEndpoint, ...]
    """Best first."""
    rejected: tuple[Rejection, ...]


def candidates(endpoints: Iterable[LiveEndpoint], preference: RoutingPreference, needs: Needs) -> Routing:
    """Filter and rank `endpoints` for one request.

    Rank: the customer's order of providers, then endpoints with a free slot before full ones, then `preference.sort`
    (price of the request at its bounds, or load), then the other of the two, then the endpoint's id.
    """
    accepted: list[LiveEndpoint] = []
    rejected: list[Rejection] = []
    for endpoint in endpoints:
        rejection = _rejection(endpoint, preference, needs)
        if rejection is None:
            accepted.append(endpoint)
        else:
            rejected.append(rejection)
    if len(accepted) > 1:
        accepted.sort(key=_rank(preference, needs))
        if not preference.allow_fallbacks and not preference.order:
            accepted, others = _of_first_provider(accepted)
            rejected += others
    rejected.sort(key=lambda rejection: rejection.endpoint.id)
    return Routing(ranked=tuple(accepted), rejected=tuple(rejected))


def _rejection(endpoint: LiveEndpoint, preference: RoutingPreference, needs: Needs) -> Rejection | None:
    if endpoint.model_slug != needs.model_slug:
        return Rejection(endpoint=endpoint, reason=Reason.MODEL, detail=f"serves {endpoint.model_slug}")
    # Most requests wish nothing; this function runs for every endpoint of every request.
    if preference is not NO_PREFERENCE:
        rejection = _ruled_out(endpoint, preference) or _too_expensive(endpoint, preference)
        if rejection is not None:
            return rejection
    if needs.tokens_min > endpoint.context_length:
        detail = f"has a context of {endpoint.context_length} tokens; the request needs {needs.tokens_min} at least"
        return Rejection(endpoint=endpoint, reason=Reason.CONTEXT, detail=detail)
    if endpoint.quarantined:
        detail = "failed a moment ago and is left alone for seconds"
        return Rejection(endpoint=endpoint, reason=Reason.QUARANTINED, detail=detail)
    return None


def _ruled_out(endpoint: LiveEndpoint, preference: RoutingPreference) -> Rejection | None:
    slug = endpoint.provider_slug
    if preference.only and slug not in preference.only:
        return Rejection(endpoint=endpoint, reason=Reason.NOT_IN_ONLY, detail="is not in provider.only")
    if slug in preference.ignore:
        return Rejection(endpoint=endpoint, reason=Reason.IGNORED, detail="is in provider.ignore")
    if preference.order and not preference.allow_fallbacks and slug not in preference.order:
        detail = "is not in provider.order, and provider.allow_fallbacks is false"
        return Rejection(endpoint=endpoint, reason=Reason.NOT_IN_ORDER, detail=detail)
    return None


def _too_expensive(endpoint: LiveEndpoint, preference: RoutingPreference) -> Rejection | None:
    for name, price, limit in (
        ("prompt", endpoint.prices.token_prompt, preference.prompt_nano_usd_max),
        ("completion", endpoint.prices.token_completion, preference.completion_nano_usd_max),
    ):
        if limit is not None and price > limit:
            detail = f"asks {price} nano-USD per {name} token; provider.max_price allows {limit}"
            return Rejection(endpoint=endpoint, reason=Reason.PRICE, detail=detail)
    return None


def _rank(
    preference: RoutingPreference, needs: Needs
) -> Callable[[LiveEndpoint], tuple[int, bool, float, float, UUID]]:
    places = {slug: place for place, slug in reversed(list(enumerate(preference.order)))}
    by_price = preference.sort is Sort.PRICE

    def rank(endpoint: LiveEndpoint) -> tuple[int, bool, float, float, UUID]:
        place = places.get(endpoint.provider_slug, len(places))
        full = endpoint.running >= endpoint.capacity
        price, load = price_at_bounds(endpoint, needs), endpoint.running / max(endpoint.capacity, 1)
        first, second = (price, load) if by_price else (load, price)
        return place, full, first, second, endpoint.id

    return rank


def price_at_bounds(endpoint: LiveEndpoint, needs: Needs) -> int:
    """What the request could cost there at most, in nano-USD; compares endpoints, never charges."""
    completion = endpoint.context_length
    if needs.tokens_completion_max is not None:
        completion = min(completion, needs.tokens_completion_max)
    prompt = min(needs.tokens_prompt_max, endpoint.context_length)
    prices = endpoint.prices
    return prompt * prices.token_prompt + completion * prices.token_completion + prices.request


def _of_first_provider(ranked: list[LiveEndpoint]) -> tuple[list[LiveEndpoint], list[Rejection]]:
    first = ranked[0].provider_id
    detail = f"{ranked[0].provider_slug} ranks first, and provider.allow_fallbacks is false"
    return (
        [endpoint for endpoint in ranked if endpoint.provider_id == first],
        [
            Rejection(endpoint=endpoint, reason=Reason.FALLBACK, detail=detail)
            for endpoint in ranked
            if endpoint.provider_id != first
        ],
    )
