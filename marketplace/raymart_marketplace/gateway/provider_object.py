"""OpenRouter's `provider` object: what a customer wishes of routing, as it arrives, and in our terms.

Source: https://openrouter.ai/docs/features/provider-routing. A condition that cannot be checked is refused, because
silence would promise it; a preference is never a reason to refuse.
"""

import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import structs

from raymart_core.errors import InvalidRequest
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.supply.pace import at_least, at_most
from raymart_marketplace.supply.trust import DataPolicy, Trust

NANO_PER_USD = 1_000_000_000
NANO_PER_USD_PER_MILLION = 1_000
"""USD per million tokens -> nano-USD per token."""
PRICE_MAX_USD = Decimal(10**12)
PROVIDERS_MAX = 100
MS_PER_S = 1_000


class MaxPrice(msgspec.Struct):
    """US dollars: per million tokens, per request, per picture."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None


class PercentileLimits(msgspec.Struct, forbid_unknown_fields=True):
    """Limits by percentile; all are to be kept."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


class SortBy(msgspec.Struct, forbid_unknown_fields=True):
    """A strategy in OpenRouter's longer form."""

    by: str
    partition: str | None = None
    """"model" only: of several models each is tried before the next."""


class ProviderObject(msgspec.Struct, forbid_unknown_fields=True):
    """The object's documented fields."""

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool | None = None
    sort: str | SortBy | None = None
    max_price: MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: str | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: list[str] | None = None
    preferred_min_throughput: float | PercentileLimits | None = None
    """Tokens a second, a number for p50; those that were slower of late come last."""
    preferred_max_latency: float | PercentileLimits | None = None
    """Seconds until the first token; likewise."""
    region: str | list[str] | None = None
    """Ours: in one of these only."""
    regions: list[str] | None = None
    """The same."""
    min_trust: str | None = None
    """Ours: machines trusted so far at least."""
    trust: str | None = None
    """The same."""
    trace: bool | None = None
    """Ours: whether the answer tells how it was routed."""
    allow_resume: bool | None = None
    """Ours: whether another endpoint may go on with a stream that broke; by default it may."""
    hedge: bool | None = None
    """Ours: whether a second endpoint is asked when the first is late; by default it is not."""


def routing_preference(wish: ProviderObject, *, needed: Sequence[str] = ()) -> RoutingPreference:
    """`wish` in our terms; `needed` are the capabilities that the body's parameters need.

    Raises: InvalidRequest with `param` when it cannot be honoured.
    """
    if wish.enforce_distillable_text:
        raise InvalidRequest(
            "provider.enforce_distillable_text cannot be guaranteed; leave it out",
            param="provider.enforce_distillable_text",
        )
    price = wish.max_price or MaxPrice()
    return RoutingPreference(
        order=_slugs(wish.order, param="provider.order"),
        only=_slugs(wish.only, param="provider.only"),
        ignore=_slugs(wish.ignore, param="provider.ignore"),
        allow_fallbacks=wish.allow_fallbacks is not False,
        sort=_sort(wish.sort),
        quantizations=_slugs(wish.quantizations, param="provider.quantizations"),
        regions=_regions(wish),
        trust=_trust(wish.min_trust, param="provider.min_trust")
        or _trust(wish.trust, param="provider.trust"),
        data_policy=_data_policy(wish),
        allow_resume=wish.allow_resume is not False,
        hedge=wish.hedge is True,
        prompt_nano_usd_max=_nano_usd(
            price.prompt, NANO_PER_USD_PER_MILLION, param="provider.max_price.prompt"
        ),
        completion_nano_usd_max=_nano_usd(
            price.completion, NANO_PER_USD_PER_MILLION, param="provider.max_price.completion"
        ),
        request_nano_usd_max=_nano_usd(price.request, NANO_PER_USD, param="provider.max_price.request"),
        image_nano_usd_max=_nano_usd(price.image, NANO_PER_USD, param="provider.max_price.image"),
        capabilities=tuple(sorted(needed)) if wish.require_parameters else (),
        tokens_per_s_min_preferred=at_least(
            **_limits(wish.preferred_min_throughput, param="provider.preferred_min_throughput")
        ),
        first_token_ms_max_preferred=at_most(
            **{
                name: limit_s * MS_PER_S
                for name, limit_s in _limits(
                    wish.preferred_max_latency, param="provider.preferred_max_latency"
                ).items()
            }
        ),
    )


def _slugs(slugs: list[str] | None, *, param: str) -> tuple[str, ...]:
    if not slugs:
        return ()
    if len(slugs) > PROVIDERS_MAX:
        raise InvalidRequest(f"{len(slugs)} names; the limit is {PROVIDERS_MAX}", param=param)
    return tuple(slugs)


def _regions(wish: ProviderObject) -> tuple[str, ...]:
    one = [wish.region] if isinstance(wish.region, str) else wish.region
    return _slugs([*(one or ()), *(wish.regions or ())], param="provider.regions")


def _sort(wish: str | SortBy | None) -> Sort | None:
    if isinstance(wish, SortBy):
        if wish.partition not in {None, "model"}:
            raise InvalidRequest(
                f"partition {wish.partition[:40] if wish.partition else ''!r} is not served; models are tried one after the other, "
                "which is 'model'",
                param="provider.sort.partition",
            )
        wish = wish.by
    try:
        return None if wish is None else Sort(wish)
    except ValueError:
        raise InvalidRequest(
            f"sort by {wish[:40] if wish else wish!r} is not known; use {', '.join(Sort)}",
            param="provider.sort",
        ) from None


def _trust(name: str | None, *, param: str) -> Trust | None:
    try:
        return None if name is None else Trust(name)
    except ValueError:
        raise InvalidRequest(
            f"trust {name[:40] if name else name!r} is not known; use {', '.join(Trust)}", param=param
        ) from None


def _data_policy(wish: ProviderObject) -> DataPolicy | None:
    """Both of OpenRouter's words for it ask for providers that keep nothing."""
    if wish.data_collection not in {None, "allow", "deny"}:
        raise InvalidRequest("data_collection is allow or deny", param="provider.data_collection")
    return DataPolicy.NO_RETENTION if wish.zdr or wish.data_collection == "deny" else None


def _limits(wish: float | PercentileLimits | None, *, param: str) -> dict[str, float]:
    """What is wished, by percentile; a number is for p50."""
    if wish is None:
        return {}
    given = wish if isinstance(wish, PercentileLimits) else PercentileLimits(p50=wish)
    limits = {name: limit for name, limit in structs.asdict(given).items() if limit is not None}
    for limit in limits.values():
        if not math.isfinite(limit) or limit < 0:
            raise InvalidRequest(f"{param} is {limit!r}; it must be 0 or more", param=param)
    return limits


def _nano_usd(usd: Decimal | None, nano_per_usd: int, *, param: str) -> int | None:
    if usd is None:
        return None
    # NaN compares false to everything; the bound keeps 1e999999 from becoming a million-digit integer.
    if not usd.is_finite() or not 0 <= usd <= PRICE_MAX_USD:
        raise InvalidRequest("a price is between 0 and 1e12 USD", param=param)
    return int(usd * nano_per_usd)
