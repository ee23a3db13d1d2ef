"""One of several processes on one port: serves what its supervisor (`workers`) hands it, until that says otherwise."""

import asyncio
import contextlib
import faulthandler
import math
import socket
from dataclasses import dataclass

import uvicorn

from raymart_graphql.operator.control import (
    ASK,
    BEGIN,
    ENDED,
    HERE,
    MEET_YOUNGER,
    PACKET_BYTES_MAX,
    READY,
    RETIRE,
)
from raymart_graphql.operator.worker_process import SAY_WHERE
from raymart_marketplace.supply.siblings import Meeting, Meetings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a worker is told."""

    said: bytes
    meeting: Meeting | None = None


class Worker(uvicorn.Server):
    """uvicorn's server with a supervisor."""

    def __init__(
        self, config: uvicorn.Config, *, control: socket.socket, retirement_s: float, meetings: Meetings
    ) -> None:
        """`retirement_s` is what running requests get after RETIRE; nobody waits for them then."""
        super().__init__(config)
        self._control = control
        self._retirement_s = retirement_s
        self._meetings = meetings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        self._control.settimeout(0)
        asyncio.get_running_loop().add_reader(self._control, self._obey)
        await super().startup(sockets)
        with contextlib.suppress(OSError):  # A supervisor that is gone is seen by `_obey`.
            self._control.send(READY)

    def _obey(self) -> None:
        try:
            order = _read_order(self._control)
        except BlockingIOError:
            return
        if order.meeting is not None:
            # Also while it retires: its streams may go on with a sibling's nodes.
            self._meetings.add(order.meeting)
            return
        if order.said == ASK:
            with contextlib.suppress(OSError):
                self._control.send(HERE)
            return
        if order.said == ENDED:
            asyncio.get_running_loop().remove_reader(self._control)
        elif order.said == RETIRE:
            self.config.timeout_graceful_shutdown = math.ceil(self._retirement_s)
        self.should_exit = True


def serve(
    config: uvicorn.Config, *, listener_fd: int, control_fd: int, retirement_s: float, meetings: Meetings
) -> None:
    """Serve on the inherited listening socket until SIGTERM, RETIRE or the supervisor's end.

    `meetings` is what the application listens to (`supply.siblings`).
    """
    with socket.socket(fileno=listener_fd) as listener, socket.socket(fileno=control_fd) as control:
        # Those who were there before are known before the application starts: it has their nodes when it serves.
        while (order := _read_order(control)).meeting is not None:
            meetings.add(order.meeting)
        if order.said == BEGIN:
            # From C, so that it says where it hangs without the interpreter's help. Lines only: no value is shown.
            faulthandler.register(SAY_WHERE, all_threads=True)
            worker = Worker(config, control=control, retirement_s=retirement_s, meetings=meetings)
            worker.run(sockets=[listener])


def _read_order(control: socket.socket) -> _Order:
    """The next packet. Raises: BlockingIOError where there is none and the socket does not block."""
    try:
        said, descriptors, _, _ = socket.recv_fds(control, PACKET_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return _Order(said=ENDED)
    if not descriptors:
        return _Order(said=said)
    meeting = Meeting(socket=socket.socket(fileno=descriptors[0]), is_elder=said == MEET_YOUNGER)
    return _Order(said=said, meeting=meeting)
