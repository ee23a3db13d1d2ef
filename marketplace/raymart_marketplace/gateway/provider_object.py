"""OpenRouter's `provider` object: what a customer wishes of routing, as it arrives, and in our terms.

Source: https://openrouter.ai/docs/features/provider-routing. A wish that is only a preference and cannot be met yet is
ignored; a condition that cannot be checked yet is refused, because silence would promise it.
"""

from decimal import Decimal

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_marketplace.routing.preference import RoutingPreference, Sort

NANO_PER_USD_PER_MILLION = 1_000
"""USD per million tokens -> nano-USD per token."""
PRICE_MAX_USD_PER_MILLION = Decimal(10**12)
PROVIDERS_MAX = 100


class MaxPrice(msgspec.Struct):
    """USD per million tokens; `request` and `image` are accepted, nothing here costs either."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None


class ProviderObject(msgspec.Struct, forbid_unknown_fields=True):
    """The object's documented fields."""

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool | None = None
    sort: str | None = None
    max_price: MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: str | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: list[str] | None = None
    preferred_min_throughput: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    preferred_max_latency: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def routing_preference(wish: ProviderObject) -> RoutingPreference:
    """`wish` in our terms. Raises: InvalidRequest with `param` when it cannot be honoured."""
    _refuse_unchecked(wish)
    price = wish.max_price or MaxPrice()
    return RoutingPreference(
        order=_slugs(wish.order, param="provider.order"),
        only=_slugs(wish.only, param="provider.only"),
        ignore=_slugs(wish.ignore, param="provider.ignore"),
        allow_fallbacks=wish.allow_fallbacks is not False,
        sort=_sort(wish.sort),
        prompt_nano_usd_max=_nano_usd(price.prompt, param="provider.max_price.prompt"),
        completion_nano_usd_max=_nano_usd(price.completion, param="provider.max_price.completion"),
    )


def _refuse_unchecked(wish: ProviderObject) -> None:
    conditions = {
        "require_parameters": wish.require_parameters,
        "data_collection": wish.data_collection not in {None, "allow"},
        "zdr": wish.zdr,
        "enforce_distillable_text": wish.enforce_distillable_text,
        "quantizations": wish.quantizations,
    }
    for name, asked in conditions.items():
        if asked:
            raise InvalidRequest(
                f"provider.{name} cannot be guaranteed yet; leave it out", param=f"provider.{name}"
            )


def _slugs(slugs: list[str] | None, *, param: str) -> tuple[str, ...]:
    if not slugs:
        return ()
    if len(slugs) > PROVIDERS_MAX:
        raise InvalidRequest(f"{len(slugs)} providers; the limit is {PROVIDERS_MAX}", param=param)
    return tuple(slugs)


def _sort(name: str | None) -> Sort:
    try:
        return Sort.PRICE if name is None else Sort(name)
    except ValueError:
        raise InvalidRequest(
            f"sort by {name[:40] if name else name!r} is not known; use price, latency or throughput",
            param="provider.sort",
        ) from None


def _nano_usd(usd_per_million: Decimal | None, *, param: str) -> int | None:
    if usd_per_million is None:
        return None
    # NaN compares false to everything; the bound keeps 1e999999 from becoming a million-digit integer.
    if not usd_per_million.is_finite() or not 0 <= usd_per_million <= PRICE_MAX_USD_PER_MILLION:
        raise InvalidRequest("a price is between 0 and 1e12 USD per million tokens", param=param)
    return int(usd_per_million * NANO_PER_USD_PER_MILLION)
