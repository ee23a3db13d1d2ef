"""A chat completion in one piece, in OpenAI's shape."""

import msgspec

from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.events import Finished, Started
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_object


class TopLogprob(msgspec.Struct):
    """A token that could have come instead."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class ContentLogprob(msgspec.Struct):
    """A token that came, with its alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct):
    """Log probabilities of a choice's tokens."""

    content: list[ContentLogprob]
    refusal: None = None


class AssistantMessage(msgspec.Struct):
    """The answer."""

    content: str
    role: str = "assistant"
    refusal: None = None


class Choice(msgspec.Struct):
    """The one choice."""

    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str
    index: int = 0


class ChatCompletion(msgspec.Struct):
    """The body of a unary answer."""

    id: str
    created: int
    model: str
    provider: str
    system_fingerprint: str
    choices: list[Choice]
    usage: UsageObject
    object: str = "chat.completion"


_encode = msgspec.json.Encoder().encode


def completion_id(started: Started) -> str:
    """The answer's id, made of the request's."""
    return f"chatcmpl-{started.request_id.hex}"


def fingerprint(started: Started) -> str:
    """Names the served revision: weights, quantization and engine."""
    return f"fp_{started.revision.removeprefix('sha256:')[:12]}"


def choice_logprobs(logprobs: tuple[TokenLogprob, ...]) -> ChoiceLogprobs:
    """The replica's log probabilities as OpenAI writes them."""
    return ChoiceLogprobs(
        content=[
            ContentLogprob(
                token=each.token,
                logprob=each.logprob,
                bytes=each.bytes,
                top_logprobs=[
                    TopLogprob(token=top.token, logprob=top.logprob, bytes=top.bytes) for top in each.top
                ],
            )
            for each in logprobs
        ]
    )


def completion_body(
    started: Started, text: str, logprobs: tuple[TokenLogprob, ...] | None, finished: Finished
) -> bytes:
    """The whole answer as JSON."""
    return _encode(
        ChatCompletion(
            id=completion_id(started),
            created=int(started.created_at.timestamp()),
            model=started.model,
            provider=started.provider,
            system_fingerprint=fingerprint(started),
            choices=[
                Choice(
                    message=AssistantMessage(content=text),
                    logprobs=choice_logprobs(logprobs) if logprobs else None,
                    finish_reason=finished.finish_reason.value,
                )
            ],
            usage=usage_object(
                tokens_prompt=finished.tokens_prompt,
                tokens_completion=finished.tokens_completion,
                cost=finished.cost,
            ),
        )
    )
