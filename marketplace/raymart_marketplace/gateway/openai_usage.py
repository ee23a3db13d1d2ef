"""OpenAI's usage object, with what the request cost."""

import msgspec

from raymart_core.money import Money


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


def usage_object(*, tokens_prompt: int, tokens_completion: int, cost: Money) -> UsageObject:
    """The object for these counts."""
    return UsageObject(
        prompt_tokens=tokens_prompt,
        completion_tokens=tokens_completion,
        total_tokens=tokens_prompt + tokens_completion,
        cost=decimal_text(cost),
    )


def decimal_text(amount: Money) -> str:
    """`amount` in whole dollars, exact: "0.000001230"."""
    return f"{amount.decimal():f}"
