"""A generation in OpenRouter's shape, with ours beside it: `attempts`, each with whose failure ended it.

Source: https://openrouter.ai/docs/api-reference/get-a-generation. Amounts are US dollars, written as exact JSON numbers.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.gateway.generations.reading import Generation
from raymart_marketplace.metering.models import Attempt, AttemptOutcome, RequestState, UsageRecord

_NATIVE = {FinishReason.ABORT: "cancelled"}
_STATUS = {AttemptOutcome.DELIVERED: 200, AttemptOutcome.FAILED: 502, AttemptOutcome.CANCELLED: 499}

encode = msgspec.json.Encoder(decimal_format="number").encode


class ProviderResponse(msgspec.Struct):
    """One try, as OpenRouter has it."""

    provider_name: str
    endpoint_id: str
    status: int
    latency: int | None
    """Milliseconds to its first token."""
    is_byok: bool = False


class AttemptObject(msgspec.Struct):
    """One try, with what it delivered."""

    id: str
    provider: str
    endpoint_id: str
    outcome: str
    fault: Fault
    """Whose failure ended it; "none" where nobody's did."""
    reason: str
    tokens_delivered: int
    started_at: datetime
    latency: int | None
    duration: int
    """Milliseconds."""
    cost: Decimal
    """What the customer pays for what it delivered."""


class GenerationObject(msgspec.Struct):
    """One request. `tokens_*` are by the gateway's count, which is also the engine's tokenizer's: `native_*` are the same."""

    id: str
    request_id: str
    model: str
    model_asked: str
    created_at: datetime
    streamed: bool
    cancelled: bool
    state: RequestState
    error_code: str | None
    finish_reason: str | None
    native_finish_reason: str | None
    provider_name: str | None
    """Who delivered the last part; null when nobody did."""
    providers: list[str]
    """All that delivered, in order."""
    latency: int | None
    """Milliseconds to the first token."""
    generation_time: int | None
    """Milliseconds from the first token to the end."""
    tokens_prompt: int
    tokens_completion: int
    native_tokens_prompt: int
    native_tokens_completion: int
    native_tokens_cached: int
    total_cost: Decimal
    usage: Decimal
    cache_discount: Decimal
    """What cached prompt tokens cost less than others."""
    provider_responses: list[ProviderResponse]
    attempts: list[AttemptObject]
    api_type: str = "completions"
    origin: str = ""
    is_byok: bool = False
    upstream_id: str | None = None
    upstream_inference_cost: Decimal = Decimal(0)
    native_tokens_reasoning: int = 0
    moderation_latency: int | None = None


class GenerationReply(msgspec.Struct):
    """OpenRouter's envelope."""

    data: GenerationObject


def generation_body(generation: Generation) -> bytes:
    """The answer as JSON."""
    return encode(GenerationReply(data=_object(generation)))


def _object(generation: Generation) -> GenerationObject:
    request, parts = generation.request, generation.parts
    served = [generation.providers.get(part.provider_id, "") for part in parts]
    cost = Money(sum(part.customer_nano_usd for part in parts)).decimal()
    prompt = sum(part.tokens_prompt for part in parts)
    completion = sum(part.tokens_completion for part in parts)
    first_token_ms = request.first_token_ms
    name = show(Prefix.REQUEST, request.id)
    return GenerationObject(
        id=name,
        request_id=name,
        model=request.model_served,
        model_asked=request.model_asked,
        created_at=request.created_at,
        streamed=request.streamed,
        cancelled=request.state is RequestState.CANCELLED,
        state=request.state,
        error_code=request.error_code,
        finish_reason=None if request.finish_reason is None else request.finish_reason.value,
        native_finish_reason=_native(request.finish_reason),
        provider_name=served[-1] if served else None,
        providers=served,
        latency=first_token_ms,
        generation_time=None if first_token_ms is None else request.duration_ms - first_token_ms,
        tokens_prompt=prompt,
        tokens_completion=completion,
        native_tokens_prompt=prompt,
        native_tokens_completion=completion,
        native_tokens_cached=sum(part.tokens_cached for part in parts),
        total_cost=cost,
        usage=cost,
        cache_discount=Money(sum(map(_discount, parts))).decimal(),
        provider_responses=[_response(attempt, generation) for attempt in generation.attempts],
        attempts=_attempts(generation),
    )


def _native(reason: FinishReason | None) -> str | None:
    return None if reason is None else _NATIVE.get(reason, reason.value)


def _discount(part: UsageRecord) -> int:
    return max(part.tokens_cached * (part.price_prompt_nano_usd - part.price_cached_nano_usd), 0)


def _response(attempt: Attempt, generation: Generation) -> ProviderResponse:
    return ProviderResponse(
        provider_name=generation.providers.get(attempt.provider_id, ""),
        endpoint_id=show(Prefix.ENDPOINT, attempt.endpoint_id),
        status=_STATUS[attempt.outcome],
        latency=attempt.first_token_ms,
    )


def _attempts(generation: Generation) -> list[AttemptObject]:
    # The attempts that delivered, in order, are the parts; what is no text was delivered by the last.
    rest = list(generation.parts)
    found = []
    for attempt in generation.attempts:
        delivered = bool(attempt.tokens_delivered) or attempt is generation.attempts[-1]
        part = rest.pop(0) if delivered and rest and rest[0].endpoint_id == attempt.endpoint_id else None
        found.append(
            AttemptObject(
                id=show(Prefix.ATTEMPT, attempt.id),
                provider=generation.providers.get(attempt.provider_id, ""),
                endpoint_id=show(Prefix.ENDPOINT, attempt.endpoint_id),
                outcome=attempt.outcome.value,
                fault=attempt.fault,
                reason=attempt.reason,
                tokens_delivered=attempt.tokens_delivered,
                started_at=attempt.created_at,
                latency=attempt.first_token_ms,
                duration=attempt.duration_ms,
                cost=Money(0 if part is None else part.customer_nano_usd).decimal(),
            )
        )
    return found
