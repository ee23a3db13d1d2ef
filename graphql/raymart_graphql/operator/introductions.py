"""Makes workers known to each other: the supervisor hands each two of them a connection of their own.

A pair of sockets has no name in any file system or network, so that nobody but the two can be at its ends. The supervisor
keeps neither end: when one worker dies, the kernel tells the other at once.
"""

import contextlib
import socket

from raymart_graphql.operator.control import BEGIN, MEET_ELDER, MEET_YOUNGER


class Introductions:
    """The control connections of all workers that live, those that retire included: their streams go on."""

    def __init__(self) -> None:
        self._controls: list[socket.socket] = []

    def join(self, newcomer: socket.socket) -> None:
        """Introduce a worker to all others, and let it begin."""
        for control in self._controls:
            elder, younger = socket.socketpair()
            with elder, younger, contextlib.suppress(OSError):
                # To the newcomer last: if the other cannot be told, it meets somebody who is not there.
                socket.send_fds(control, [MEET_YOUNGER], [elder.fileno()])
                socket.send_fds(newcomer, [MEET_ELDER], [younger.fileno()])
        with contextlib.suppress(OSError):
            newcomer.send(BEGIN)
        self._controls.append(newcomer)

    def leave(self, control: socket.socket) -> None:
        """A worker has ended."""
        if control in self._controls:
            self._controls.remove(control)
