"""Stop strings: text is delivered up to the first match, and what may yet become a match is held back.

Tokens move with their text. A piece (one or more tokens and the text they complete) is released only when all of its
text is safe; at a match the pieces wholly before it are released, the piece it cuts is released with its text cut,
and the rest is dropped. So the ids that a customer gets are never more than what is billed, and the delivered text is
always that of the delivered ids, cut at the stop string.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raymart_core.wire.replica import TokenLogprob


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tokens whose text ends at a character's boundary."""

    count: int
    ids: tuple[int, ...]
    """All `count` ids when `exact`, else those that are known."""
    text: str
    exact: bool
    logprobs: tuple[TokenLogprob, ...] | None = None


class HoldBack:
    """Releases pieces as soon as no stop string can start in them. Never holds more than the longest stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._pending: deque[Piece] = deque()

    def push(self, piece: Piece) -> tuple[list[Piece], bool]:
        """Take the next piece; returns the pieces that may go out now, and whether a stop string matched."""
        self._pending.append(piece)
        text = "".join(part.text for part in self._pending)
        match_at = self._first_match(text)
        if match_at is not None:
            return self._cut(match_at), True
        return self._release(len(text) - self._held_length(text)), False

    def flush(self) -> list[Piece]:
        """The generation ended by itself: what was held is no stop string after all."""
        pieces = list(self._pending)
        self._pending.clear()
        return pieces

    def _first_match(self, text: str) -> int | None:
        # The match that is complete first wins, as if the text had come one character at a time.
        matches = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(matches)[1] if matches else None

    def _held_length(self, text: str) -> int:
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _release(self, safe_length: int) -> list[Piece]:
        pieces, released = [], 0
        while self._pending and released + len(self._pending[0].text) <= safe_length:
            released += len(self._pending[0].text)
            pieces.append(self._pending.popleft())
        return pieces

    def _cut(self, match_at: int) -> list[Piece]:
        pieces = self._release(match_at)
        rest = match_at - sum(len(piece.text) for piece in pieces)
        if rest:
            pieces.append(replace(self._pending[0], text=self._pending[0].text[:rest]))
        self._pending.clear()
        return pieces
