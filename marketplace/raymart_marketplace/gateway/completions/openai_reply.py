"""A text completion in OpenAI's shape: in one piece, and as server-sent events.

Source: https://platform.openai.com/docs/api-reference/completions/object; chunks have the object's own shape.
"""

from collections.abc import Sequence

import msgspec

from raymart_core.errors import DomainError
from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.error_reply import ErrorObject, error_object
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started
from raymart_marketplace.gateway.openai_reply import fingerprint
from raymart_marketplace.gateway.openai_stream import DONE
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_of
from raymart_marketplace.gateway.resumption import failover_field

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


class TextStream:
    """Writes one choice of a stream. Implements `Chunks`."""

    def __init__(self, asked: Asked, started: Started, index: int) -> None:
        self._request_id = started.request_id
        self._include_usage = asked.include_usage
        self._echoed = echoed(asked, index)
        self._offset = 0
        self._index = index
        self._started = started
        self._tail = b',"usage":null}\n\n' if self._include_usage else b"}\n\n"
        self._name(started.provider)

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

    def resume(self, resumed: Resumed) -> None:
        """Another provider goes on; it is named from here on."""
        self._name(resumed.provider)

    def end(self, finished: Finished) -> bytes:
        """The finish, the usage if it was asked for, and the terminator."""
        return self.finish(finished) + self.close([finished])

    def error(self, broken: Broken) -> bytes:
        """The last event of a stream that broke; no terminator follows."""
        return b'%b"","logprobs":null,"finish_reason":"error"}]%b,"error":%b,"usage":%b}\n\n' % (
            self._before,
            failover_field(broken),
            self._encoded(broken.error),
            _encode(usage_of(broken)),
        )

    def finish(self, finished: Finished) -> bytes:
        """The finish alone."""
        return b'%b"","logprobs":null,"finish_reason":%b}]%b%b' % (
            self._before,
            _encode(finished.finish_reason.value),
            failover_field(finished),
            self._tail,
        )

    def failed(self, error: DomainError) -> bytes:
        """The end of one choice of several that broke."""
        return b'%b"","logprobs":null,"finish_reason":"error","error":%b}]%b' % (
            self._before,
            self._encoded(error),
            self._tail,
        )

    def note(self, field: bytes) -> bytes:
        """A chunk without choices that carries `field`."""
        return b'%b,"choices":[],%b%b' % (self._head, field, self._tail)

    def close(self, ended: Sequence[Finished | Broken]) -> bytes:
        """The usage of all choices if it was asked for, and the terminator."""
        if not self._include_usage:
            return DONE
        return b'%b,"choices":[],"usage":%b}\n\n%b' % (self._head, _encode(usage_of(*ended)), DONE)

    def _name(self, provider: str) -> None:
        started = self._started
        self._head = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"provider":%b,' % (
            _encode(_id(started)),
            int(started.created_at.timestamp()),
            _encode(started.model),
            _encode(provider),
        ) + b'"system_fingerprint":%b' % _encode(fingerprint(started))
        self._before = b'%b,"choices":[{"index":%d,"text":' % (self._head, self._index)

    def _text(self, text: str) -> bytes:
        return self._chunk(text, logprobs=b"null")

    def _chunk(self, text: str, *, logprobs: bytes) -> bytes:
        return b'%b%b,"logprobs":%b,"finish_reason":null}]%b' % (
            self._before,
            _encode(text),
            logprobs,
            self._tail,
        )

    def _encoded(self, error: DomainError) -> bytes:
        return _encode(error_object(error, request_id=self._request_id))


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
