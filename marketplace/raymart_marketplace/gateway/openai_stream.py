"""A chat completion as server-sent events, in OpenAI's chunks.

Everything that is the same in every chunk is written once per stream: a chunk costs one JSON string and two
concatenations. Source: https://platform.openai.com/docs/api-reference/chat-streaming; errors in mid-stream as
https://openrouter.ai/docs/api-reference/errors: status 200 stays, the last event carries `error`.
"""

from collections.abc import Sequence

import msgspec

from raymart_core.errors import DomainError
from raymart_core.wire.replica import TokenLogprob, ToolDelta
from raymart_marketplace.gateway.error_reply import error_object
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started
from raymart_marketplace.gateway.openai_reply import (
    choice_logprobs,
    completion_id,
    fingerprint,
    finish_word,
)
from raymart_marketplace.gateway.openai_usage import usage_of
from raymart_marketplace.gateway.resumption import failover_field

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class ChatStream:
    """Writes one stream's events as bytes."""

    def __init__(self, started: Started, *, include_usage: bool, index: int = 0) -> None:
        self._request_id = started.request_id
        self._include_usage = include_usage
        self._called = False
        self._index = index
        self._started = started
        # OpenAI: with include_usage every chunk but the last has a null usage.
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._name(started.provider)

    def role(self) -> bytes:
        """The first chunk."""
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def delta(self, delta: Delta) -> bytes:
        """A chunk of text; nothing for tokens that only begin a character, unless they carry log probabilities.

        Reasoning (OpenRouter's field) and pieces of tool calls come as chunks of their own before it.
        """
        before = b""
        if delta.reasoning:
            before = self._chunk(b'{"reasoning":%b}' % _encode(delta.reasoning))
        if delta.tools:
            self._called = True
            before += self._chunk(b'{"tool_calls":%b}' % _encode([_piece(piece) for piece in delta.tools]))
        if delta.logprobs is not None:
            return before + self._with_logprobs(delta.text, delta.logprobs)
        if not delta.text:
            return before
        return before + self._before_text + _encode(delta.text) + self._after_text

    def resume(self, resumed: Resumed) -> None:
        """Another provider goes on; it is named from here on."""
        self._name(resumed.provider)

    def end(self, finished: Finished) -> bytes:
        """The finish, the usage if it was asked for, and the terminator."""
        return self.finish(finished) + self.close([finished])

    def error(self, broken: Broken) -> bytes:
        """The last event of a stream that broke: the error and what is billed; no terminator follows."""
        return b'%b{"content":""},"logprobs":null,"finish_reason":"error"}]%b,"error":%b,"usage":%b}\n\n' % (
            self._before_delta,
            failover_field(broken),
            self._encoded(broken.error),
            _encode(usage_of(broken)),
        )

    def finish(self, finished: Finished) -> bytes:
        """The finish alone."""
        return b'%b{},"logprobs":null,"finish_reason":%b}]%b%b' % (
            self._before_delta,
            _encode(finish_word(finished, called=self._called)),
            failover_field(finished),
            self._tail,
        )

    def failed(self, error: DomainError) -> bytes:
        """The end of one choice of several that broke. Clients end a stream at an error outside of its choices."""
        return b'%b{"content":""},"logprobs":null,"finish_reason":"error","error":%b}]%b' % (
            self._before_delta,
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
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"provider":%b,'
            b'"system_fingerprint":%b'
            % (
                _encode(completion_id(started)),
                int(started.created_at.timestamp()),
                _encode(started.model),
                _encode(provider),
                _encode(fingerprint(started)),
            )
        )
        self._before_delta = self._head + b',"choices":[{"index":%d,"delta":' % self._index
        self._before_text = self._before_delta + b'{"content":'

    def _encoded(self, error: DomainError) -> bytes:
        return _encode(error_object(error, request_id=self._request_id))

    def _chunk(self, delta: bytes) -> bytes:
        return b'%b%b,"logprobs":null,"finish_reason":null}]%b' % (
            self._before_delta,
            delta,
            self._tail,
        )

    def _with_logprobs(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes:
        return b'%b%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._before_text,
            _encode(text),
            _encode(choice_logprobs(logprobs)),
            self._tail,
        )


class _Function(msgspec.Struct, omit_defaults=True):
    name: str = ""
    arguments: str | None = None


class _Piece(msgspec.Struct, omit_defaults=True):
    index: int
    function: _Function
    id: str = ""
    type: str = ""


def _piece(delta: ToolDelta) -> _Piece:
    """OpenAI: id, type and name come with a call's first piece only."""
    function = _Function(name=delta.name, arguments=delta.arguments)
    return _Piece(index=delta.index, function=function, id=delta.id, type="function" if delta.id else "")
