"""A text completion in OpenAI's shape: in one piece, and as server-sent events.

Source: https://platform.openai.com/docs/api-reference/completions/object; chunks have the object's own shape.
"""

from collections.abc import Sequence

import msgspec

from raymart_core.errors import DomainError
from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.chunks import OpenAIChunks
from raymart_marketplace.gateway.error_reply import ErrorObject, error_object
from raymart_marketplace.gateway.events import Delta, Started
from raymart_marketplace.gateway.openai_reply import fingerprint
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_of

_encode = msgspec.json.Encoder().encode


class TextLogprobs(msgspec.Struct):
    """Log probabilities of a choice's tokens, each list as long as the others."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    """Where each token begins in the choice's text, in characters."""


class TextChoice(msgspec.Struct):
    """One answer."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: str | None
    error: ErrorObject | msgspec.UnsetType = msgspec.UNSET
    """Of one choice of several that failed; it costs nothing."""


class TextCompletion(msgspec.Struct):
    """The body of an answer in one piece."""

    id: str
    created: int
    model: str
    provider: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageObject
    object: str = "text_completion"


def text_body(asked: Asked, choices: Sequence[Whole | DomainError]) -> bytes:
    """The whole answer as JSON; one choice at least is whole."""
    done = [choice for choice in choices if isinstance(choice, Whole)]
    started = done[0].started
    return _encode(
        TextCompletion(
            id=_id(started),
            created=int(started.created_at.timestamp()),
            model=started.model,
            provider=started.provider,
            system_fingerprint=fingerprint(started),
            choices=[_choice(asked, choice, index, started) for index, choice in enumerate(choices)],
            usage=usage_of(*(choice.finished for choice in done)),
        )
    )


class TextStream(OpenAIChunks):
    """Writes one choice of a stream."""

    object_name = b"text_completion"
    no_more = no_text = b'"text":""'

    def __init__(self, asked: Asked, started: Started, index: int) -> None:
        super().__init__(started, completion_id=_id(started), index=index, include_usage=asked.include_usage)
        self._echoed = echoed(asked, index)
        self._offset = 0

    def role(self) -> bytes:
        """The prompt, where it is to be echoed."""
        return self._text(self._echoed) if self._echoed else b""

    def delta(self, delta: Delta) -> bytes:
        """A chunk of text; nothing for tokens that only begin a character, unless they carry log probabilities."""
        if delta.logprobs is None:
            return self._text(delta.text) if delta.text else b""
        logprobs = _encode(_logprobs(delta.logprobs, offset=self._offset))
        self._offset += sum(len(each.token) for each in delta.logprobs)
        return self._chunk(delta.text, logprobs=logprobs)

    def _text(self, text: str) -> bytes:
        return self._chunk(text, logprobs=b"null")

    def _chunk(self, text: str, *, logprobs: bytes) -> bytes:
        return b'%b"text":%b,"logprobs":%b,"finish_reason":null}]%b' % (
            self._before,
            _encode(text),
            logprobs,
            self._tail,
        )


def echoed(asked: Asked, index: int) -> str:
    """What the answer at `index` begins with."""
    return (asked.choices[index].prompt or "") if asked.echo else ""


def _choice(asked: Asked, choice: Whole | DomainError, index: int, named: Started) -> TextChoice:
    if isinstance(choice, DomainError):
        error = error_object(choice, request_id=named.request_id)
        return TextChoice(text="", index=index, logprobs=None, finish_reason="error", error=error)
    logprobs = choice.answer.logprobs
    return TextChoice(
        text=echoed(asked, index) + choice.answer.text,
        index=index,
        logprobs=_logprobs(logprobs, offset=0) if logprobs else None,
        finish_reason=choice.finished.finish_reason.value,
    )


def _logprobs(logprobs: Sequence[TokenLogprob], *, offset: int) -> TextLogprobs:
    offsets = []
    for each in logprobs:
        offsets.append(offset)
        offset += len(each.token)
    return TextLogprobs(
        tokens=[each.token for each in logprobs],
        token_logprobs=[each.logprob for each in logprobs],
        top_logprobs=[{top.token: top.logprob for top in each.top} for each in logprobs],
        text_offset=offsets,
    )


def _id(started: Started) -> str:
    return f"cmpl-{started.request_id.hex}"
