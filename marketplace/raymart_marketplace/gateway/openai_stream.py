"""A chat completion as server-sent events, in OpenAI's chunks.

Everything that is the same in every chunk is written once per stream: a chunk costs one JSON string and two
concatenations. Source: https://platform.openai.com/docs/api-reference/chat-streaming; errors in mid-stream as
https://openrouter.ai/docs/api-reference/errors: status 200 stays, the last event carries `error`.
"""

import msgspec

from raymart_core.wire.replica import TokenLogprob, ToolDelta
from raymart_marketplace.gateway.error_reply import error_object
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Started
from raymart_marketplace.gateway.openai_reply import (
    choice_logprobs,
    completion_id,
    fingerprint,
    finish_word,
)
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_object

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class ChatStream:
    """Writes one stream's events as bytes."""

    def __init__(self, started: Started, *, include_usage: bool) -> None:
        self._request_id = started.request_id
        self._include_usage = include_usage
        self._called = False
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"provider":%b,'
            b'"system_fingerprint":%b'
            % (
                _encode(completion_id(started)),
                int(started.created_at.timestamp()),
                _encode(started.model),
                _encode(started.provider),
                _encode(fingerprint(started)),
            )
        )
        # OpenAI: with include_usage every chunk but the last has a null usage.
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._before_text = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail

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

    def end(self, finished: Finished) -> bytes:
        """The finish, the usage if it was asked for, and the terminator."""
        finish = b'%b,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]%b' % (
            self._head,
            _encode(finish_word(finished, called=self._called)),
            self._tail,
        )
        if not self._include_usage:
            return finish + DONE
        return b'%b%b,"choices":[],"usage":%b}\n\n%b' % (finish, self._head, _encode(_usage(finished)), DONE)

    def error(self, broken: Broken) -> bytes:
        """The last event of a stream that broke: the error and what is billed; no terminator follows."""
        choices = b'[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"error"}]'
        return b'%b,"error":%b,"choices":%b,"usage":%b}\n\n' % (
            self._head,
            _encode(error_object(broken.error, request_id=self._request_id)),
            choices,
            _encode(_usage(broken)),
        )

    def _chunk(self, delta: bytes) -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]%b' % (
            self._head,
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


def _usage(ended: Finished | Broken) -> UsageObject:
    return usage_object(
        tokens_prompt=ended.tokens_prompt, tokens_completion=ended.tokens_completion, cost=ended.cost
    )
