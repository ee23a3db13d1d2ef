"""Looking for offers: routing's own filter and order, over places that are not live too, with a reason for each left out.

What routing checks of an endpoint, this asks routing (`route.verdict`, `ranking.rank_key`), so that a search never promises
what a request is then refused. The rest (region, hardware, number format) is checked here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.routing.preference import RoutingPreference, Sort, lies_in
from raymart_marketplace.routing.ranking import rank_key
from raymart_marketplace.routing.route import Needs, Reason, Verdict, verdict
from raymart_marketplace.routing.toss import NO_CHANCE
from raymart_marketplace.supply.live import LiveEndpoint, Standing
from raymart_marketplace.supply.pace import UNKNOWN_PACE, Pace
from raymart_marketplace.supply.trust import DataPolicy, Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as its node announced it."""

    model: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An open offer on one machine, or on none yet. Implements `route.Offered`."""

    id: UUID
    """The endpoint's; the offer's where it was never announced."""
    offer_id: UUID
    endpoint_id: UUID | None
    provider_id: UUID
    provider_slug: str
    revision_id: UUID
    revision_digest: str
    model_slug: str
    quantization: str
    context_length: int
    region: str | None
    """None where no machine has announced it."""
    gpus: tuple[Gpu, ...]
    prices: Prices
    """Of this moment; all zero when `unsellable` says why there are none."""
    unsellable: str
    live: LiveEndpoint | None
    """What this process may send requests to."""
    standing: Standing = Standing.CURRENT
    aliases: tuple[str, ...] = ()
    trust: Trust | None = None
    """None where no machine has announced it."""
    data_policy: DataPolicy = DataPolicy.UNSTATED
    capabilities: tuple[str, ...] = ()

    @property
    def capacity(self) -> int:
        """Generations at once; 0 while it is not live."""
        return 0 if self.live is None else self.live.capacity

    @property
    def running(self) -> int:
        """Generations that run."""
        return 0 if self.live is None else self.live.running

    @property
    def crowded(self) -> bool:
        """Whether its provider has no room for another request of this process."""
        return self.live is not None and self.live.crowded

    @property
    def quarantined(self) -> bool:
        """Whether it failed a moment ago."""
        return self.live is not None and self.live.quarantined

    @property
    def rests_until(self) -> float:
        """When it is tried again, by the monotonic clock."""
        return 0.0 if self.live is None else self.live.rests_until

    @property
    def first_token_ms(self) -> float | None:
        """How long its first token took of late."""
        return None if self.live is None else self.live.first_token_ms

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it generated of late."""
        return None if self.live is None else self.live.tokens_per_s

    @property
    def pace(self) -> Pace:
        """Both by percentiles."""
        return UNKNOWN_PACE if self.live is None else self.live.pace

    @property
    def error_rate(self) -> float:
        """The share of what it was asked of late that failed by its fault."""
        return 0.0 if self.live is None else self.live.error_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is looked for. Empty and None mean no wish."""

    preference: RoutingPreference
    model_slug: str | None = None
    prices_max: Mapping[Unit, int] = field(default_factory=dict)
    """Nano-USD by unit."""
    regions: frozenset[str] = frozenset()
    """A region, or its beginning: 'eu' takes 'eu-west' too."""
    quantizations: frozenset[str] = frozenset()
    context_length_min: int = 1
    gpu_model: str = ""
    """A part of its name, whatever the case."""
    gpu_memory_bytes_min: int = 0
    live_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer: every place is in exactly one of the two."""

    matches: tuple[Place, ...]
    """Best first, live ones before others."""
    rejected: tuple[tuple[Place, Verdict], ...]
    """By id."""


def search(places: Iterable[Place], wish: Wish) -> Found:
    """Filter and rank `places`."""
    matches: list[Place] = []
    rejected: list[tuple[Place, Verdict]] = []
    for place in places:
        found = _verdict(place, wish)
        if found is None:
            matches.append(place)
        else:
            rejected.append((place, found))
    # For nothing but its prices: as if a token came in and one went out.
    needs = _needs(wish.model_slug or "", context_length_min=1)
    # A list is the same each time it is looked at: where chance would decide, the price does.
    sort = Sort.PRICE if wish.preference.sort in _BY_CHANCE else wish.preference.sort or Sort.PRICE
    rank = rank_key(wish.preference, needs, sort=sort, toss=NO_CHANCE)
    matches.sort(key=lambda place: (place.live is None, rank(place)))
    rejected.sort(key=lambda pair: pair[0].id)
    return Found(matches=tuple(matches), rejected=tuple(rejected))


def absence(place: Place) -> Verdict:
    """Why a place that is not live is not."""
    if place.unsellable:
        return Verdict(Reason.UNSELLABLE, f"cannot be sold at the moment: {place.unsellable}")
    return Verdict(Reason.OFFLINE, "no ready replica of it is on line at the moment")


def _verdict(place: Place, wish: Wish) -> Verdict | None:
    needs = _needs(wish.model_slug or place.model_slug, context_length_min=wish.context_length_min)
    found = verdict(place, wish.preference, needs)
    # What can be sold and reached is asked first: of an offer without a price no price is too high.
    if found is not None and found.reason is Reason.MODEL:
        return found
    if place.unsellable or (wish.live_only and place.live is None):
        return absence(place)
    return found or _wrong_place(place, wish) or _over_ceiling(place, wish)


def _wrong_place(place: Place, wish: Wish) -> Verdict | None:
    if wish.regions and not lies_in(place.region, wish.regions):
        where = place.region or "no region yet"
        return Verdict(Reason.REGION, f"is in {where}, not in {', '.join(sorted(wish.regions))}")
    if wish.quantizations and place.quantization not in wish.quantizations:
        asked = ", ".join(sorted(wish.quantizations))
        return Verdict(Reason.QUANTIZATION, f"serves {place.quantization} weights, not {asked}")
    named = [gpu for gpu in place.gpus if wish.gpu_model.lower() in gpu.model.lower()]
    if wish.gpu_model and not named:
        return Verdict(Reason.GPU_MODEL, f"has {_names(place.gpus)}, not {wish.gpu_model}")
    memory = max((gpu.memory_bytes for gpu in named), default=0)
    if memory < wish.gpu_memory_bytes_min:
        detail = f"has a GPU of {memory} bytes at most; {wish.gpu_memory_bytes_min} are asked for"
        return Verdict(Reason.GPU_MEMORY, detail)
    return None


def _over_ceiling(place: Place, wish: Wish) -> Verdict | None:
    for unit, price in place.prices.items():
        limit = wish.prices_max.get(unit)
        if limit is not None and price > limit:
            return Verdict(
                Reason.PRICE, f"asks {price} nano-USD per {unit.value}; {limit} is the most allowed"
            )
    return None


def _names(gpus: tuple[Gpu, ...]) -> str:
    return ", ".join(sorted({gpu.model for gpu in gpus})) or "no GPU"


def _needs(model_slug: str, *, context_length_min: int) -> Needs:
    return Needs(
        model_slug=model_slug, tokens_prompt_max=1, tokens_completion_max=1, tokens_min=context_length_min
    )


_BY_CHANCE = frozenset({Sort.BALANCED, Sort.WEIGHTED, Sort.ROUND_ROBIN, Sort.AFFINITY})
