"""Which endpoints may serve a request, and why the others may not. Pure: the same endpoint gives the same verdict."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from msgspec import Struct

from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, lies_in
from raymart_marketplace.supply.live import LiveEndpoint, Standing
from raymart_marketplace.supply.pace import Pace
from raymart_marketplace.supply.trust import DataPolicy, Trust


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
    TRUST = "trust"
    """It is trusted less than the customer asks for."""
    DATA_POLICY = "data_policy"
    """Its provider does not promise what the customer asks of those who see prompts."""
    CONTEXT = "context"
    """Its context cannot hold what is asked for."""
    CROWDED = "crowded"
    """As many requests of this process as may run at its provider do."""
    PARAMETERS = "parameters"
    """Its revision does not say that it can do what the customer requires."""
    QUARANTINED = "quarantined"
    """It failed a moment ago."""
    FALLBACK = "fallback"
    """Another provider ranks first and the customer forbade fallbacks."""
    UNSELLABLE = "unsellable"
    """It has no price at which it may be sold. Routing never sees such an endpoint; a search does."""
    OFFLINE = "offline"
    """No ready replica of it is linked to this process. Likewise."""
    REGION = "region"
    """It is in none of the regions that are asked for."""
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
    def region(self) -> str | None:
        """Where it runs; None where no machine has announced it."""

    @property
    def quantization(self) -> str:
        """Number format of its weights."""

    @property
    def trust(self) -> Trust | None:
        """How far its machine is trusted; None where no machine has announced it."""

    @property
    def data_policy(self) -> DataPolicy:
        """What its provider says of what it keeps."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What its revision says it can do."""

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
    def crowded(self) -> bool:
        """Whether its provider has no room for another request of this process (`supply.bulkhead`)."""

    @property
    def quarantined(self) -> bool:
        """Whether it failed a moment ago (`supply.breaker`)."""

    @property
    def rests_until(self) -> float:
        """When it is tried again, by the monotonic clock; tells the least bad of those that failed."""

    @property
    def first_token_ms(self) -> float | None:
        """How long its first token took of late; None when nothing is known of its model."""

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it generated of late; likewise."""

    @property
    def pace(self) -> Pace:
        """Both by percentiles."""

    @property
    def error_rate(self) -> float:
        """The share, 0 to 1, of what it was asked of late that failed by its fault."""


class Verdict(NamedTuple):
    """Why something is left out."""

    reason: Reason
    detail: str
    """A sentence with value and limit, safe to show to the customer."""


CROWDED = Verdict(Reason.CROWDED, "has as many requests of this gateway under way as its provider may have")
QUARANTINED = Verdict(Reason.QUARANTINED, "failed a moment ago and is left alone for seconds")


class Needs(Struct, frozen=True, kw_only=True, gc=False):
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
    pictures: int = 0
    """How many pictures that is for."""
    affinity: int | None = None
    """A digest, 64 bits, of how the conversation begins, for `Sort.AFFINITY`."""


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
        found = (
            _ruled_out(offered, preference)
            or _elsewhere(offered, preference)
            or _too_expensive(offered, preference, needs)
            or _unable(offered, preference)
        )
        if found is not None:
            return found
    if needs.tokens_min > offered.context_length:
        detail = (
            f"has a context of {offered.context_length} tokens; the request needs {needs.tokens_min} at least"
        )
        return Verdict(Reason.CONTEXT, detail)
    if offered.crowded:
        return CROWDED
    # Last, so that of what is rejected for this alone the least bad can be tried when nothing else is left.
    return QUARANTINED if offered.quarantined else None


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


def _elsewhere(offered: Offered, preference: RoutingPreference) -> Verdict | None:
    """Another place, format or keeper than asked for."""
    if preference.regions and not lies_in(offered.region, preference.regions):
        where = offered.region or "no region yet"
        return Verdict(Reason.REGION, f"is in {where}, not in {', '.join(sorted(preference.regions))}")
    if preference.quantizations and offered.quantization not in preference.quantizations:
        asked = ", ".join(sorted(preference.quantizations))
        return Verdict(Reason.QUANTIZATION, f"serves {offered.quantization} weights, not {asked}")
    least = preference.trust
    if least is not None and (offered.trust is None or not offered.trust.reaches(least)):
        found = "not known" if offered.trust is None else offered.trust.value
        return Verdict(Reason.TRUST, f"is {found}; {least.value} is the least asked for")
    if preference.data_policy is not None and offered.data_policy is not preference.data_policy:
        asked, said = preference.data_policy.value, offered.data_policy.value
        return Verdict(Reason.DATA_POLICY, f"has the data policy {said}, not {asked}")
    return None


def _too_expensive(offered: Offered, preference: RoutingPreference, needs: Needs) -> Verdict | None:
    prices = offered.prices
    for name, price, limit in (
        ("prompt token", prices.token_prompt, preference.prompt_nano_usd_max),
        ("completion token", prices.token_completion, preference.completion_nano_usd_max),
        ("request", prices.request, preference.request_nano_usd_max),
        ("picture", picture_price(prices, needs), preference.image_nano_usd_max),
    ):
        if limit is not None and price > limit:
            detail = f"asks {price} nano-USD per {name}; provider.max_price allows {limit}"
            return Verdict(Reason.PRICE, detail)
    return None


def picture_price(prices: Prices, needs: Needs) -> int:
    """What one picture of the request comes to at most, in nano-USD, rounded up; 0 of a request for none."""
    if not needs.pictures:
        return 0
    return -(
        -needs.pixel_steps * prices.image_megapixel_step // (Unit.IMAGE_MEGAPIXEL_STEP.scale * needs.pictures)
    )


def _unable(offered: Offered, preference: RoutingPreference) -> Verdict | None:
    lacking = [name for name in preference.capabilities if name not in offered.capabilities]
    if not lacking:
        return None
    return Verdict(
        Reason.PARAMETERS, f"does not promise {', '.join(lacking)}, and provider.require_parameters is true"
    )
