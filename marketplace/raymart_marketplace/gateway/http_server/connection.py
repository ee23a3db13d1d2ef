"""A connection without what is said on it: who is at its other end, and that neither side is sent more than it takes."""

import asyncio

from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState


class Connection(asyncio.Protocol):
    """One of uvicorn's, as long as its transport lives."""

    transport: asyncio.Transport

    def __init__(self, server_state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self._server_state = server_state
        self._loop = loop
        self._common: tuple[list[tuple[bytes, bytes]] | None, bytes] = (None, b"")
        self._is_read_paused = False
        self.is_write_paused = False
        self._writable = asyncio.Event()
        self._unread_since = 0.0
        """Since when the client does not keep up, where it does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP and TLS only
        """List it."""
        self.transport = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn lists its own classes
        self._server, self._client = get_local_addr(transport), get_remote_addr(transport)
        self._scheme = "https" if is_ssl(transport) else "http"

    def eof_received(self) -> None:
        """A client that says no more has left: closing its half is what clients do that give up."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody wait for it any more."""
        del exc
        self._server_state.connections.discard(self)
        self.is_write_paused = False
        self._writable.set()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self.is_write_paused = True
        self._writable.clear()
        self._unread_since = self._loop.time()

    def resume_writing(self) -> None:
        """The client has read on."""
        self.is_write_paused = False
        self._writable.set()

    async def drain(self) -> None:
        """Wait until the client reads on, or is gone."""
        await self._writable.wait()

    def common_lines(self) -> bytes:
        """The header lines of every answer, which uvicorn renews each second."""
        headers, lines = self._common
        if headers is not self._server_state.default_headers:
            headers = self._server_state.default_headers
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._common = headers, lines
        return lines

    def _pause_reading(self) -> None:
        if not self._is_read_paused and not self.transport.is_closing():
            self._is_read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_read_paused and not self.transport.is_closing():
            self._is_read_paused = False
            self.transport.resume_reading()
