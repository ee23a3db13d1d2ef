"""From the API's input to the gateway's request. Ranges are checked there, once for every surface."""

from collections.abc import Sequence
from decimal import Decimal

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import ChatMessage
from raymart_graphql.schema.inference.types import (
    ChatCompletionInput,
    ChatMessageInput,
    MaxPriceInput,
    ProviderPreferenceInput,
)
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference

NANO_USD_PER_TOKEN = 1_000
"""One US dollar per million tokens, in nano-USD per token."""
PROVIDERS_MAX = 100
"""Slugs in one list of a provider preference."""


def chat_request(given: ChatCompletionInput) -> ChatRequest:
    """`given` as the gateway takes it. Raises: InvalidRequest with the input's field as `param`."""
    return ChatRequest(
        model=given.model,
        messages=chat_messages(given.messages),
        sampling=Sampling(
            max_tokens=given.max_tokens,
            temperature=given.temperature,
            top_p=given.top_p,
            seed=given.seed,
            stop=tuple(given.stop),
            top_logprobs=given.top_logprobs,
        ),
        routing=routing_preference(given.provider),
    )


def chat_messages(given: Sequence[ChatMessageInput]) -> tuple[ChatMessage, ...]:
    """A conversation as the gateway takes it."""
    return tuple(
        ChatMessage(role=message.role.value, content=message.content, name=message.name) for message in given
    )


def routing_preference(given: ProviderPreferenceInput | None) -> RoutingPreference:
    """`given` as routing takes it. Raises: InvalidRequest with the input's field as `param`."""
    if given is None:
        return NO_PREFERENCE
    for name, slugs in (("order", given.order), ("only", given.only), ("ignore", given.ignore)):
        if len(slugs) > PROVIDERS_MAX:
            raise InvalidRequest(
                f"{len(slugs)} providers; the limit is {PROVIDERS_MAX}", param=f"provider.{name}"
            )
    limits = given.max_price or MaxPriceInput()
    return RoutingPreference(
        order=tuple(given.order),
        only=tuple(given.only),
        ignore=tuple(given.ignore),
        allow_fallbacks=given.allow_fallbacks,
        sort=given.sort,
        prompt_nano_usd_max=_nano_usd(limits.prompt_per_million, "prompt_per_million"),
        completion_nano_usd_max=_nano_usd(limits.completion_per_million, "completion_per_million"),
    )


def _nano_usd(per_million: Decimal | None, field: str) -> int | None:
    """Dollars per million tokens as nano-USD per token, rounded down: prices are whole nano-USD."""
    if per_million is None:
        return None
    if per_million < 0:
        raise InvalidRequest(f"{per_million:f} is below 0", param=f"provider.max_price.{field}")
    return int(per_million * NANO_USD_PER_TOKEN)
