"""A chat completion in one piece, in OpenAI's shape."""

from collections.abc import Sequence

import msgspec

from raymart_core.errors import DomainError
from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.error_reply import ErrorObject, error_object
from raymart_marketplace.gateway.events import Delta, Finished, Started
from raymart_marketplace.gateway.openai_body import CalledFunction, ToolCallObject
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_of


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

    content: str | None
    """None when the model only called tools."""
    role: str = "assistant"
    refusal: None = None
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    """What the model thought before (OpenRouter's field)."""
    tool_calls: list[ToolCallObject] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct):
    """One choice."""

    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str
    index: int = 0
    error: ErrorObject | msgspec.UnsetType = msgspec.UNSET
    """Of one choice of several that failed (OpenRouter's field); it costs nothing."""


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
    return f"chatcmpl-{started.request_id.int:032x}"


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


def joined_calls(deltas: tuple[ToolDelta, ...]) -> list[ToolCallObject]:
    """The calls that the pieces make, in order."""
    calls: dict[int, ToolCallObject] = {}
    for delta in deltas:
        call = calls.get(delta.index)
        if call is None:
            calls[delta.index] = call = ToolCallObject(
                id=delta.id, function=CalledFunction(name=delta.name, arguments="")
            )
        call.function.arguments += delta.arguments
    return [call for _, call in sorted(calls.items())]


def finish_word(finished: Finished, *, called: bool) -> str:
    """OpenAI's finish_reason: an answer that ended by itself and called tools ended for these."""
    if called and finished.finish_reason is FinishReason.STOP:
        return "tool_calls"
    return finished.finish_reason._value_  # `.value` is a property in Python.


def _message(answer: Delta) -> AssistantMessage:
    message = AssistantMessage(content=answer.text)
    if answer.reasoning:
        message.reasoning = answer.reasoning
    if answer.tools:
        message.tool_calls = joined_calls(answer.tools)
        message.content = answer.text or None
    return message


def completion_body(choices: Sequence[Whole | DomainError]) -> bytes:
    """The whole answer as JSON; one choice at least is whole."""
    done = [choice for choice in choices if isinstance(choice, Whole)]
    started = done[0].started
    return _encode(
        ChatCompletion(
            id=completion_id(started),
            created=int(started.created_at.timestamp()),
            model=started.model,
            provider=started.provider,
            system_fingerprint=fingerprint(started),
            choices=[_choice(choice, index, started) for index, choice in enumerate(choices)],
            usage=usage_of(*(choice.finished for choice in done)),
        )
    )


def _choice(choice: Whole | DomainError, index: int, named: Started) -> Choice:
    if isinstance(choice, DomainError):
        return Choice(
            message=AssistantMessage(content=""),
            logprobs=None,
            finish_reason="error",
            index=index,
            error=error_object(choice, request_id=named.request_id),
        )
    answer = choice.answer
    return Choice(
        message=_message(answer),
        logprobs=choice_logprobs(answer.logprobs) if answer.logprobs else None,
        finish_reason=finish_word(choice.finished, called=bool(answer.tools)),
        index=index,
    )
