"""uvicorn's HTTP protocol with what it lacks: a deadline for receiving a request, a cap on its head, Host required.

Give `GuardedHttpProtocol` to uvicorn as `http=`. Without it a client that sends a byte a minute holds a connection
for ever, and a header of any size is collected in memory.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class GuardedHttpProtocol(HttpToolsProtocol):
    """Times the receipt of each request, never the answer: streams and WebSockets live as long as they like."""

    receipt_timeout_s: ClassVar[float] = 15.0
    """From the first byte of a request (for a connection's first request: from its opening) to the last."""
    head_bytes_max: ClassVar[int] = 32 * 1024

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._receipt_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._head_is_whole = False
        self._is_receiving = True
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Parse `data`, unless the head grows past its cap."""
        if not self._is_receiving:
            self._is_receiving = True
            self._arm()
        if not self._head_is_whole:
            self._head_bytes += len(data)
        super().data_received(data)
        # What was parsed is checked header by header below; this is the part that never becomes a header.
        if (
            not self._head_is_whole
            and self._head_bytes > self.head_bytes_max
            and not self.transport.is_closing()
        ):
            self.send_400_response("Request head too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop timing."""
        self._disarm()
        super().connection_lost(exc)

    # httptools

    def on_message_begin(self) -> None:
        """Begin to count the head."""
        super().on_message_begin()
        self._parsed_bytes = 0
        self._head_is_whole = False

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Require exactly one Host, as RFC 9112 section 3.2 does; two could mean two things to two parsers."""
        self._head_is_whole = True
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError(f"{hosts} Host headers")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here; from now on the time is ours."""
        self._disarm()
        self._is_receiving = False
        self._head_bytes = 0
        super().on_message_complete()

    # uvicorn

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with no timer left on it."""
        self._disarm()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or too much of one."""
        if max(self._head_bytes * (not self._head_is_whole), self._parsed_bytes) <= self.head_bytes_max:
            super().send_400_response(msg)
            return
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()

    _parsed_bytes = 0

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > self.head_bytes_max:
            # httptools turns this into a parser error, and uvicorn that into `send_400_response`.
            raise ValueError(f"a head of more than {self.head_bytes_max} bytes")

    def _arm(self) -> None:
        self._disarm()
        self._receipt_timer = self.loop.call_later(self.receipt_timeout_s, self._receipt_is_late)

    def _disarm(self) -> None:
        if self._receipt_timer is not None:
            self._receipt_timer.cancel()
            self._receipt_timer = None

    def _receipt_is_late(self) -> None:
        if self.flow.read_paused:
            self._arm()  # It is we who do not read.
        elif not self.transport.is_closing():
            self.transport.close()
