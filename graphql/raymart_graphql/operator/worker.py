"""One of several processes on one port: serves what its supervisor (`workers`) hands it, until that says otherwise."""

import asyncio
import math
import socket

import uvicorn

from raymart_graphql.operator.workers import READY, RETIRE


class Worker(uvicorn.Server):
    """uvicorn's server with a supervisor."""

    def __init__(self, config: uvicorn.Config, *, control: socket.socket, retirement_s: float) -> None:
        """`retirement_s` is what running requests get after RETIRE; nobody waits for them then."""
        super().__init__(config)
        self._control = control
        self._retirement_s = retirement_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        reader, self._to_supervisor = await asyncio.open_connection(sock=self._control)
        self._to_supervisor.write(READY)
        self._obeying = asyncio.create_task(self._obey(reader))

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        if await reader.readline() == RETIRE:
            self.config.timeout_graceful_shutdown = math.ceil(self._retirement_s)
        self.should_exit = True


def serve(config: uvicorn.Config, *, listener_fd: int, control_fd: int, retirement_s: float) -> None:
    """Serve on the inherited listening socket until SIGTERM, RETIRE or the supervisor's end."""
    with socket.socket(fileno=listener_fd) as listener, socket.socket(fileno=control_fd) as control:
        Worker(config, control=control, retirement_s=retirement_s).run(sockets=[listener])
