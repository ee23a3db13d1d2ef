"""A chat completion as server-sent events, in OpenAI's chunks: one costs one JSON string and two concatenations."""

import msgspec

from raymart_core.wire.replica import TokenLogprob, ToolDelta
from raymart_marketplace.gateway.chunks import OpenAIChunks
from raymart_marketplace.gateway.events import Delta, Finished, Started
from raymart_marketplace.gateway.openai_reply import choice_logprobs, completion_id, finish_word

_encode = msgspec.json.Encoder().encode


class ChatStream(OpenAIChunks):
    """Writes one choice of a stream."""

    object_name = b"chat.completion.chunk"
    no_more = b'"delta":{}'
    no_text = b'"delta":{"content":""}'

    def __init__(self, started: Started, *, include_usage: bool, index: int = 0) -> None:
        super().__init__(
            started, completion_id=completion_id(started), index=index, include_usage=include_usage
        )
        self._called = False
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

    def finish_reason(self, finished: Finished) -> str:
        """OpenAI's word for it."""
        return finish_word(finished, called=self._called)

    def _name(self, provider: str) -> None:
        super()._name(provider)
        self._before_delta = self._before + b'"delta":'
        self._before_text = self._before_delta + b'{"content":'

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
