"""OpenAI's usage object, with what the request cost."""

import msgspec

from raymart_core.money import ZERO, Money
from raymart_marketplace.gateway.events import Broken, Finished


class PromptDetails(msgspec.Struct):
    """Parts of the prompt."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    """Parts of the completion."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageObject(msgspec.Struct):
    """What is billed. `cost` is in US dollars, a decimal string, because a float cannot carry money."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: str
    prompt_tokens_details: PromptDetails = msgspec.field(default_factory=PromptDetails)
    completion_tokens_details: CompletionDetails = msgspec.field(default_factory=CompletionDetails)


def usage_object(
    *, tokens_prompt: int, tokens_completion: int, cost: Money, tokens_cached: int = 0
) -> UsageObject:
    """The object for these counts; the cached tokens are among the prompt's."""
    return UsageObject(
        prompt_tokens=tokens_prompt,
        completion_tokens=tokens_completion,
        total_tokens=tokens_prompt + tokens_completion,
        cost=decimal_text(cost),
        prompt_tokens_details=PromptDetails(cached_tokens=tokens_cached),
    )


def usage_of(*ended: Finished | Broken) -> UsageObject:
    """What the choices of one answer come to; each has paid for its own prompt."""
    tokens_prompt = tokens_completion = tokens_cached = 0
    cost = ZERO
    for each in ended:
        tokens_prompt += each.tokens_prompt
        tokens_completion += each.tokens_completion
        cost = cost + each.cost if cost else each.cost
        if isinstance(each, Finished):
            tokens_cached += each.tokens_cached
    return usage_object(
        tokens_prompt=tokens_prompt,
        tokens_completion=tokens_completion,
        cost=cost,
        tokens_cached=tokens_cached,
    )


def decimal_text(amount: Money) -> str:
    """`amount` in whole dollars, exact: "0.000001230"."""
    return amount.decimal_text()
