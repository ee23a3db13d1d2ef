"""From the API's input to the gateway's request. Ranges are checked there, once for every surface."""

import math
from collections.abc import Sequence
from decimal import Decimal

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import ChatMessage
from raymart_graphql.schema.inference.types import (
    ChatCompletionInput,
    ChatMessageInput,
    MaxPriceInput,
    PercentileLimitsInput,
    ProviderPreferenceInput,
)
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.gateway.required_parameters import capabilities_of
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference
from raymart_marketplace.supply.pace import at_least, at_most

NANO_USD = 1_000_000_000
"""One US dollar."""
NANO_USD_PER_TOKEN = 1_000
"""One US dollar per million tokens, in nano-USD per token."""
PROVIDERS_MAX = 100
"""Names in one list of a provider preference."""


def chat_request(given: ChatCompletionInput) -> ChatRequest:
    """`given` as the gateway takes it. Raises: InvalidRequest with the input's field as `param`."""
    sampling = Sampling(
        max_tokens=given.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        seed=given.seed,
        stop=tuple(given.stop),
        top_logprobs=given.top_logprobs,
    )
    return ChatRequest(
        model=given.model,
        messages=chat_messages(given.messages),
        sampling=sampling,
        routing=routing_preference(given.provider, needed=capabilities_of(sampling, tools=False)),
        cache_ttl_s=given.answer_cache_seconds,
    )


def chat_messages(given: Sequence[ChatMessageInput]) -> tuple[ChatMessage, ...]:
    """A conversation as the gateway takes it."""
    return tuple(
        ChatMessage(role=message.role.value, content=message.content, name=message.name) for message in given
    )


def routing_preference(
    given: ProviderPreferenceInput | None, *, needed: Sequence[str] = ()
) -> RoutingPreference:
    """`given` as routing takes it; `needed` are the capabilities that the request asks for. Raises: InvalidRequest with the input's field as `param`."""
    if given is None:
        return NO_PREFERENCE
    lists = {
        "order": given.order,
        "only": given.only,
        "ignore": given.ignore,
        "quantizations": given.quantizations,
        "regions": given.regions,
    }
    for name, names in lists.items():
        if len(names) > PROVIDERS_MAX:
            raise InvalidRequest(
                f"{len(names)} names; the limit is {PROVIDERS_MAX}", param=f"provider.{name}"
            )
    limits = given.max_price or MaxPriceInput()
    return RoutingPreference(
        order=tuple(given.order),
        only=tuple(given.only),
        ignore=tuple(given.ignore),
        allow_fallbacks=given.allow_fallbacks,
        allow_resume=given.allow_resume,
        hedge=given.hedge,
        sort=given.sort,
        quantizations=tuple(given.quantizations),
        regions=tuple(given.regions),
        trust=given.trust,
        data_policy=given.data_policy,
        prompt_nano_usd_max=_nano_usd(limits.prompt_per_million, NANO_USD_PER_TOKEN, "prompt_per_million"),
        completion_nano_usd_max=_nano_usd(
            limits.completion_per_million, NANO_USD_PER_TOKEN, "completion_per_million"
        ),
        request_nano_usd_max=_nano_usd(limits.per_request, NANO_USD, "per_request"),
        image_nano_usd_max=_nano_usd(limits.per_picture, NANO_USD, "per_picture"),
        capabilities=tuple(sorted(needed)) if given.require_parameters else (),
        tokens_per_s_min_preferred=at_least(
            **_limits(
                given.tokens_per_second_min_preferred,
                given.tokens_per_second_percentiles_min_preferred,
                "tokens_per_second_min_preferred",
            )
        ),
        first_token_ms_max_preferred=at_most(
            **_limits(
                given.first_token_ms_max_preferred,
                given.first_token_ms_percentiles_max_preferred,
                "first_token_ms_max_preferred",
            )
        ),
    )


def _limits(
    p50: float | None, by_percentile: PercentileLimitsInput | None, field: str
) -> dict[str, float | None]:
    """What is wished of `field` in either form, by percentile."""
    if by_percentile is None:
        by_percentile = PercentileLimitsInput(p50=p50)
    elif p50 is not None:
        raise InvalidRequest("wish for p50 either alone or among percentiles", param=f"provider.{field}")
    limits = {
        "p50": by_percentile.p50,
        "p75": by_percentile.p75,
        "p90": by_percentile.p90,
        "p99": by_percentile.p99,
    }
    for limit in limits.values():
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            raise InvalidRequest(f"{limit!r} is not 0 or more", param=f"provider.{field}")
    return limits


def _nano_usd(dollars: Decimal | None, nano_usd: int, field: str) -> int | None:
    """Dollars as nano-USD of what they are the price of, rounded down: prices are whole nano-USD."""
    if dollars is None:
        return None
    if dollars < 0:
        raise InvalidRequest(f"{dollars:f} is below 0", param=f"provider.max_price.{field}")
    return int(dollars * nano_usd)
