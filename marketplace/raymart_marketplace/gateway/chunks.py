"""How a stream is written: what every surface has to say (`Chunks`), and what those in OpenAI's shapes say alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import msgspec

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.error_reply import error_object
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started
from raymart_marketplace.gateway.openai_reply import fingerprint
from raymart_marketplace.gateway.openai_usage import usage_of
from raymart_marketplace.gateway.resumption import failover_field

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class Chunks(Protocol):
    """Writes the events of one choice as bytes of a stream."""

    def role(self) -> bytes:
        """What comes before the first text."""

    def delta(self, delta: Delta) -> bytes:
        """A piece of text; nothing where there is nothing to say."""

    def resume(self, resumed: Resumed) -> None:
        """Another provider goes on; it is named from here on."""

    def end(self, finished: Finished) -> bytes:
        """All that comes after the last text of an answer with one choice."""

    def error(self, broken: Broken) -> bytes:
        """The last bytes of a stream with one choice that broke."""

    def finish(self, finished: Finished) -> bytes:
        """The end of one choice of several."""

    def failed(self, error: DomainError) -> bytes:
        """The end of one choice of several that broke; the others go on."""

    def note(self, field: bytes) -> bytes:
        """A chunk without text that carries `field`, a JSON name and value."""

    def close(self, ended: Sequence[Finished | Broken]) -> bytes:
        """What comes after the last choice of several."""


MakeChunks = Callable[[Started, int], Chunks]
"""What writes the choice of an index."""


class OpenAIChunks(ABC):
    """Server-sent events of which each is an object with one choice. Implements `Chunks` but for its text.

    What is the same in every chunk is written once per stream, and once more when another provider goes on.
    Source: https://platform.openai.com/docs/api-reference/chat-streaming; errors in mid-stream as
    https://openrouter.ai/docs/api-reference/errors: status 200 stays, the last event carries `error`.
    """

    object_name: ClassVar[bytes]
    """`object` in each chunk."""
    no_more: ClassVar[bytes]
    """A choice's field for text, as the chunk that ends the choice has it."""
    no_text: ClassVar[bytes]
    """The same in a chunk that tells of an error."""

    def __init__(self, started: Started, *, completion_id: str, index: int, include_usage: bool) -> None:
        self._started = started
        self._id = completion_id
        self._index = index
        self._include_usage = include_usage
        # OpenAI: with include_usage every chunk but the last has a null usage.
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._name(started.provider)

    @abstractmethod
    def role(self) -> bytes:
        """What comes before the first text."""

    @abstractmethod
    def delta(self, delta: Delta) -> bytes:
        """A piece of text; nothing where there is nothing to say."""

    def resume(self, resumed: Resumed) -> None:
        """Another provider goes on; it is named from here on."""
        self._name(resumed.provider)

    def end(self, finished: Finished) -> bytes:
        """The finish, the usage if it was asked for, and the terminator."""
        return self.finish(finished) + self.close([finished])

    def error(self, broken: Broken) -> bytes:
        """The last event of a stream that broke: the error and what is billed; no terminator follows."""
        return b'%b%b,"logprobs":null,"finish_reason":"error"}]%b,"error":%b,"usage":%b}\n\n' % (
            self._before,
            self.no_text,
            failover_field(broken),
            self._encoded(broken.error),
            _encode(usage_of(broken)),
        )

    def finish(self, finished: Finished) -> bytes:
        """The finish alone."""
        return b'%b%b,"logprobs":null,"finish_reason":%b}]%b%b' % (
            self._before,
            self.no_more,
            _encode(self.finish_reason(finished)),
            failover_field(finished),
            self._tail,
        )

    def failed(self, error: DomainError) -> bytes:
        """The end of one choice of several that broke. Clients end a stream at an error outside of its choices."""
        return b'%b%b,"logprobs":null,"finish_reason":"error","error":%b}]%b' % (
            self._before,
            self.no_text,
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

    def finish_reason(self, finished: Finished) -> str:
        """`finish_reason` of a good end."""
        return finished.finish_reason.value

    def _name(self, provider: str) -> None:
        """Write what is the same in every chunk, as long as `provider` serves."""
        started = self._started
        self._head = (
            b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"provider":%b,"system_fingerprint":%b'
            % (
                _encode(self._id),
                self.object_name,
                int(started.created_at.timestamp()),
                _encode(started.model),
                _encode(provider),
                _encode(fingerprint(started)),
            )
        )
        self._before = b'%b,"choices":[{"index":%d,' % (self._head, self._index)

    def _encoded(self, error: DomainError) -> bytes:
        return _encode(error_object(error, request_id=self._started.request_id))
