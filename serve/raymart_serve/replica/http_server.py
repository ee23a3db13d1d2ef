"""A small HTTP/1.1 server for a few known peers: one request at a time per connection, everything bounded.

Closing a connection cancels its handler at once, which is how a caller aborts a generation. Idle connections are
kept: the node agent holds one and takes its end for the replica's death. Where there are too many, the oldest idle
one that never showed the secret goes first.
"""

import asyncio
import socket
import ssl

from raymart_serve.replica.http_connection import Connection, Handler, HttpLimits

_HANDSHAKE_TIMEOUT_S = 5.0
"""From a TLS connection's first byte to the end of its handshake; only then it is counted among the connections."""
_SHUTDOWN_TIMEOUT_S = 2.0
"""How long a TLS peer's farewell is waited for."""


class HttpServer:
    """Serves `handler` to peers that know `secret`. Lives on the event loop that starts it."""

    def __init__(self, handler: Handler, *, secret: str, limits: HttpLimits) -> None:
        self.handler = handler
        self.secret = secret.encode("ascii")
        self.limits = limits
        self._servers: list[asyncio.Server] = []
        # In order of arrival; a dict because a set has no order.
        self._connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, host: str, port: int = 0, *, tls: ssl.SSLContext | None = None) -> str:
        """Listen on `host`, with TLS where `tls` is given; returns "host:port", with the port that the system gave for 0.

        May be called again, for another address of the same server. Raises: OSError where it cannot.
        """
        listener = self._bound(host, port)
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S if tls is not None else None,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S if tls is not None else None,
        )
        self._servers.append(server)
        bound_host, bound_port = server.sockets[0].getsockname()[:2]
        return f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"

    async def close(self, *, flush_timeout_s: float = 0.0) -> None:
        """Stop listening and end every connection; running handlers are cancelled.

        Answers that are complete but still on their way to a slow reader get `flush_timeout_s` to arrive.
        """
        for server in self._servers:
            server.close()
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

    def _bound(self, host: str, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Accepted sockets inherit it; set any later, the kernel's own tuning would have taken its place.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
        return listener
