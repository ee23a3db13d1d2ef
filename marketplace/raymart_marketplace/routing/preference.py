"""What a customer asks of routing: OpenRouter's `provider` object, checked and in our units."""

from dataclasses import dataclass
from enum import StrEnum

from raymart_marketplace.supply.pace import Percentiles
from raymart_marketplace.supply.trust import DataPolicy, Trust


class Sort(StrEnum):
    """What decides among endpoints that meet every need (`routing.ranking` has the formulas)."""

    BALANCED = "balanced"
    """At random, weighted by the inverse square of the price: the cheap are asked mostly, nobody always."""
    PRICE = "price"
    """The cheapest for this request's bounds."""
    LATENCY = "latency"
    """The one that has begun to answer soonest of late."""
    THROUGHPUT = "throughput"
    """The one that has generated fastest of late."""
    LEAST_LOADED = "least_loaded"
    """The one with the smallest share of its slots taken."""
    HEALTH = "health"
    """The one that can be expected to begin soonest, failures and load counted in."""
    ROUND_ROBIN = "round_robin"
    """One after the other."""
    WEIGHTED = "weighted"
    """At random, weighted by slots."""
    AFFINITY = "affinity"
    """Where conversations that begin alike went before, so that the engine still has their beginning in its cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPreference:
    """Providers are named by slug. Empty tuples and None mean no wish."""

    order: tuple[str, ...] = ()
    """These first, in this order."""
    only: tuple[str, ...] = ()
    """No other than these."""
    ignore: tuple[str, ...] = ()
    """None of these."""
    allow_fallbacks: bool = True
    """Whether providers outside `order` (without it: after the best one) may serve."""
    allow_resume: bool = True
    """Whether another endpoint may go on with a stream that broke."""
    hedge: bool = False
    """Whether a second endpoint is asked when the first is late with its first token."""
    sort: Sort | None = None
    """None for what the marketplace does by default (`RAYMART_ROUTING_SORT`)."""
    prompt_nano_usd_max: int | None = None
    """Highest acceptable price of a prompt token."""
    completion_nano_usd_max: int | None = None
    """Highest acceptable price of a completion token."""
    request_nano_usd_max: int | None = None
    """Highest acceptable price of a request as such."""
    image_nano_usd_max: int | None = None
    """The most that one picture of the request may come to."""
    regions: tuple[str, ...] = ()
    """In one of these only: a region or its beginning, so that 'eu' takes 'eu-west' too."""
    quantizations: tuple[str, ...] = ()
    """Weights in one of these number formats only."""
    trust: Trust | None = None
    """Trusted so far at least."""
    data_policy: DataPolicy | None = None
    """Only providers that say so of what they keep."""
    capabilities: tuple[str, ...] = ()
    """Only revisions that say they can do all of these, by the names of manifests."""
    tokens_per_s_min_preferred: Percentiles | None = None
    """Those of which a percentile was slower than this of late come after all others (`supply.pace.at_least`)."""
    first_token_ms_max_preferred: Percentiles | None = None
    """Likewise those that took longer to begin (`supply.pace.at_most`)."""

    @property
    def has_pace(self) -> bool:
        """Whether it matters how fast endpoints were of late."""
        return self.tokens_per_s_min_preferred is not None or self.first_token_ms_max_preferred is not None


NO_PREFERENCE = RoutingPreference()
"""Any healthy endpoint."""


def lies_in(region: str | None, wanted: tuple[str, ...] | frozenset[str]) -> bool:
    """Whether a region is one of `wanted` or within one."""
    return region is not None and any(region == each or region.startswith(f"{each}-") for each in wanted)
