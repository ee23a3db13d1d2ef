"""How a stream is written; each surface has its own."""

from collections.abc import Callable, Sequence
from typing import Protocol

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started


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
