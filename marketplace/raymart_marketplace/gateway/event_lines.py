"""The lines of a replica's answer, read as events."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from raymart_core.units import Fault
from raymart_marketplace.supply.upstream import UpstreamBroken

EventT = TypeVar("EventT")


class EventLines(Generic[EventT]):
    """Splits a body into events, whatever the pieces it arrives in."""

    def __init__(self, decode_lines: Callable[[bytes], list[EventT]], *, line_bytes_max: int) -> None:
        self._decode_lines = decode_lines
        self._line_bytes_max = line_bytes_max
        # Pieces of an unfinished line are kept apart: joining at each would be quadratic in a drip of single bytes.
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0

    def feed(self, chunk: bytes) -> list[EventT]:
        """The events that `chunk` completes. Raises: UpstreamBroken for a line that is too long or is no event."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return []
        lines = chunk if end == len(chunk) else chunk[:end]
        if self._pieces:
            lines = b"".join((*self._pieces, lines))
            self._pieces.clear()
            self._pieces_bytes = 0
        if end < len(chunk):
            self._keep(chunk[end:])
        try:
            return self._decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Only the error's kind: what it says may quote the line, and with that the prompt or the completion.
            raise _broken(f"a line that is no event: {type(error).__name__}") from None

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pieces_bytes += len(piece)
        if self._pieces_bytes > self._line_bytes_max:
            raise _broken(f"a line of more than {self._line_bytes_max} bytes")


def _broken(reason: str) -> UpstreamBroken:
    return UpstreamBroken(f"the replica sent {reason}", fault=Fault.PROVIDER)
