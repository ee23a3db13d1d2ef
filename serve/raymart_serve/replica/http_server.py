"""A small HTTP/1.1 server for a few known peers: one request at a time per connection, everything bounded.

Closing a connection cancels its handler at once, which is how a caller aborts a generation. Idle connections are
kept: the node agent holds one and takes its end for the replica's death. Where there are too many, the oldest idle
one that never showed the secret goes first.
"""

import asyncio
import socket

from raymart_serve.replica.http_connection import Connection, Handler, HttpLimits


class HttpServer:
    """Serves `handler` to peers that know `secret`. Lives on the event loop that starts it."""

    def __init__(self, handler: Handler, *, secret: str, limits: HttpLimits) -> None:
        self.handler = handler
        self.secret = secret.encode("ascii")
        self.limits = limits
        self._server: asyncio.Server | None = None
        # In order of arrival; a dict because a set has no order.
        self._connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, host: str, port: int = 0) -> str:
        """Listen on `host`; returns "host:port", with the port that the system gave for 0."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        # Accepted sockets inherit it; set any later, the kernel's own tuning would have taken its place.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
        listener.bind((host, port))
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=listener)
        bound_host, bound_port = self._server.sockets[0].getsockname()[:2]
        return f"{bound_host}:{bound_port}"

    async def close(self, *, flush_timeout_s: float = 0.0) -> None:
        """Stop listening and end every connection; running handlers are cancelled.

        Answers that are complete but still on their way to a slow reader get `flush_timeout_s` to arrive.
        """
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.leave()
        try:
            async with asyncio.timeout(flush_timeout_s):
                await self._empty.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.close()

    def opened(self, connection: Connection) -> bool:
        """Count `connection` in; False when there is no room."""
        if len(self._connections) >= self.limits.connections_max:
            stranger = next((one for one in self._connections if one.idle and not one.trusted), None)
            if stranger is None:
                return False
            self.closed(stranger)
            stranger.close()
        self._connections[connection] = None
        self._empty.clear()
        return True

    def closed(self, connection: Connection) -> None:
        """Count `connection` out; harmless for one that was never in."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()
