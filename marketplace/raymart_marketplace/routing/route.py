"""The routing decision: a pure function over snapshots of live endpoints.

Every endpoint is either ranked or rejected with one named reason, so that a 503 can say why and a decision can be
replayed. The same set of endpoints gives the same ranking in whatever order it is passed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.supply.live import LiveEndpoint, Standing


class Reason(StrEnum):
    """Why an endpoint was left out; checked in this order."""

    MODEL = "model"
    """It serves another model."""
    MODALITY = "modality"
    """Its model makes something else than what is asked for. Of all endpoints of a model at once, so not by `verdict`."""
    REVISION = "revision"
    """It serves another revision than the one asked for, or one that is served only when asked for."""
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
    UNSELLABLE = "unsellable"
    """It has no price at which it may be sold. Routing never sees such an endpoint; a search does."""
    OFFLINE = "offline"
    """No ready replica of it is linked to this process. Likewise."""
    REGION = "region"
    """It is not in a region that the search names."""
    QUANTIZATION = "quantization"
    """Its weights are in another number format."""
    GPU_MODEL = "gpu_model"
    """It has no GPU of that name."""
    GPU_MEMORY = "gpu_memory"
    """None of its GPUs has that much memory."""


class Offered(Protocol):
    """What routing looks at: a live endpoint, or a place where an offer could be served (`routing.search`)."""

    @property
    def id(self) -> UUID:
        """Decides where all else is equal."""

    @property
    def model_slug(self) -> str:
        """What it serves."""

    @property
    def revision_digest(self) -> str:
        """Which revision of that."""

    @property
    def standing(self) -> Standing:
        """What the revision is to requests that name none."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names of the revision."""

    @property
    def provider_slug(self) -> str:
        """Who serves it."""

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""

    @property
    def prices(self) -> Prices:
        """Nano-USD by unit."""

    @property
    def capacity(self) -> int:
        """Generations at once."""

    @property
    def running(self) -> int:
        """Generations that run."""

    @property
    def quarantined(self) -> bool:
        """Whether it failed a moment ago."""


class Verdict(NamedTuple):
    """Why something is left out."""

    reason: Reason
    detail: str
    """A sentence with value and limit, safe to show to the customer."""


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
    revision: str | None = None
    """An alias or a digest; None for what the model serves by default."""
    organization_id: UUID | None = None
    """Who asks, for private models; None for somebody who may use public ones only."""
    pixel_steps: int = 0
    """Upper bound of what pictures take."""


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

    Rank: the customer's order of providers, then endpoints with a free slot before full ones, then those whose revision
    was not superseded, then `preference.sort` (price of the request at its bounds, or load), then the other of the two,
    then the endpoint's id.
    """
    accepted: list[LiveEndpoint] = []
    rejected: list[Rejection] = []
    for endpoint in endpoints:
        found = verdict(endpoint, preference, needs)
        if found is None:
            accepted.append(endpoint)
        else:
            rejected.append(Rejection(endpoint=endpoint, reason=found.reason, detail=found.detail))
    if len(accepted) > 1:
        accepted.sort(key=rank_key(preference, needs))
        if not preference.allow_fallbacks and not preference.order:
            accepted, others = _of_first_provider(accepted)
            rejected += others
    rejected.sort(key=lambda rejection: rejection.endpoint.id)
    return Routing(ranked=tuple(accepted), rejected=tuple(rejected))


def verdict(offered: Offered, preference: RoutingPreference, needs: Needs) -> Verdict | None:
    """Why `offered` may not serve what `needs` says; None when it may. The one place that decides it."""
    if offered.model_slug != needs.model_slug:
        return Verdict(Reason.MODEL, f"serves {offered.model_slug}")
    if needs.revision is not None or offered.standing is Standing.CANDIDATE:
        found = _wrong_revision(offered, needs.revision)
        if found is not None:
            return found
    # Most requests wish nothing; this function runs for every endpoint of every request.
    if preference is not NO_PREFERENCE:
        found = _ruled_out(offered, preference) or _too_expensive(offered, preference)
        if found is not None:
            return found
    if needs.tokens_min > offered.context_length:
        detail = (
            f"has a context of {offered.context_length} tokens; the request needs {needs.tokens_min} at least"
        )
        return Verdict(Reason.CONTEXT, detail)
    if offered.quarantined:
        return Verdict(Reason.QUARANTINED, "failed a moment ago and is left alone for seconds")
    return None


def _wrong_revision(offered: Offered, revision: str | None) -> Verdict | None:
    if revision is None:
        detail = (
            f"serves {offered.revision_digest}, which is not stable; name it after an @ to be served by it"
        )
        return Verdict(Reason.REVISION, detail)
    if revision == offered.revision_digest or revision in offered.aliases:
        return None
    names = f" ({', '.join(offered.aliases)})" if offered.aliases else ""
    return Verdict(Reason.REVISION, f"serves {offered.revision_digest}{names}, not {revision}")


def _ruled_out(offered: Offered, preference: RoutingPreference) -> Verdict | None:
    slug = offered.provider_slug
    if preference.only and slug not in preference.only:
        return Verdict(Reason.NOT_IN_ONLY, "is not in provider.only")
    if slug in preference.ignore:
        return Verdict(Reason.IGNORED, "is in provider.ignore")
    if preference.order and not preference.allow_fallbacks and slug not in preference.order:
        return Verdict(Reason.NOT_IN_ORDER, "is not in provider.order, and provider.allow_fallbacks is false")
    return None


def _too_expensive(offered: Offered, preference: RoutingPreference) -> Verdict | None:
    for name, price, limit in (
        ("prompt", offered.prices.token_prompt, preference.prompt_nano_usd_max),
        ("completion", offered.prices.token_completion, preference.completion_nano_usd_max),
    ):
        if limit is not None and price > limit:
            detail = f"asks {price} nano-USD per {name} token; provider.max_price allows {limit}"
            return Verdict(Reason.PRICE, detail)
    return None


def rank_key(
    preference: RoutingPreference, needs: Needs
) -> Callable[[Offered], tuple[int, bool, bool, float, float, UUID]]:
    """The key that sorts the best first."""
    places = {slug: place for place, slug in reversed(list(enumerate(preference.order)))}
    by_price = preference.sort is Sort.PRICE

    def rank(offered: Offered) -> tuple[int, bool, bool, float, float, UUID]:
        place = places.get(offered.provider_slug, len(places))
        full = offered.running >= offered.capacity
        price, load = price_at_bounds(offered, needs), offered.running / max(offered.capacity, 1)
        first, second = (price, load) if by_price else (load, price)
        old = offered.standing is Standing.SUPERSEDED
        return place, full, old, first, second, offered.id

    return rank


def price_at_bounds(offered: Offered, needs: Needs) -> int:
    """What the request could cost there at most, in nano-USD; compares endpoints, never charges."""
    completion = offered.context_length
    if needs.tokens_completion_max is not None:
        completion = min(completion, needs.tokens_completion_max)
    prompt = min(needs.tokens_prompt_max, offered.context_length)
    prices = offered.prices
    pictures = needs.pixel_steps * prices.image_megapixel_step // Unit.IMAGE_MEGAPIXEL_STEP.scale
    return prompt * prices.token_prompt + completion * prices.token_completion + pictures + prices.request


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
