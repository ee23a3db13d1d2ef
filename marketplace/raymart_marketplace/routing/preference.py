"""What a customer asks of routing: OpenRouter's `provider` object, checked and in our units."""

from dataclasses import dataclass
from enum import StrEnum


class Sort(StrEnum):
    """What decides among endpoints that meet every need."""

    PRICE = "price"
    """The cheapest for this request's bounds; the default."""
    LATENCY = "latency"
    """The least busy first: a queue is what a customer waits for. Measured latency comes with health scores."""
    THROUGHPUT = "throughput"
    """As `latency`, until throughput is measured."""


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
    sort: Sort = Sort.PRICE
    prompt_nano_usd_max: int | None = None
    """Highest acceptable price of a prompt token."""
    completion_nano_usd_max: int | None = None
    """Highest acceptable price of a completion token."""


NO_PREFERENCE = RoutingPreference()
"""The cheapest healthy endpoint."""
