"""Where a process finds connections to its siblings: its supervisor hands them out, also to one that has just begun."""

import socket
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """One end of a connection between two processes."""

    socket: socket.socket
    """Of a connected pair of stream sockets; closed by whoever takes the meeting."""
    is_elder: bool
    """Whether this process was there before the other: each has stream ids of its own, and this tells them apart."""


class Meetings:
    """What comes before somebody listens is kept."""

    def __init__(self) -> None:
        self._waiting: list[Meeting] = []
        self._listener: Callable[[Meeting], None] | None = None

    def add(self, meeting: Meeting) -> None:
        """Hand a connection out."""
        if self._listener is not None:
            self._listener(meeting)
        else:
            self._waiting.append(meeting)

    def listen(self, listener: Callable[[Meeting], None]) -> None:
        """Call `listener` with every meeting from now on, and with those that wait."""
        assert self._listener is None, "one process, one listener"
        self._listener = listener
        waiting, self._waiting = self._waiting, []
        for meeting in waiting:
            listener(meeting)
