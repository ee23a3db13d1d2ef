"""The gateway's HTTP/1.1 client: a pool of connections to one replica, on asyncio.Protocol and llhttp.

Written by hand because the client is the largest cost of a proxied token: general clients take 5 to 30 times the CPU.
It speaks exactly what replicas speak: POST with a body of known length, answers framed by length or chunks.

Reuse is safe without blind retries: a kept connection is polled right before it is used, and one that the replica has
closed meanwhile is dropped before a byte is written. A connection that breaks after that is the caller's to judge.
"""

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from math import inf
from typing import Self, cast

import httptools

from raymart_core.units import Fault
from raymart_marketplace.gateway.replica_connection import PinnedCertificate, open_connection, whose
from raymart_marketplace.supply.upstream import UpstreamBroken

BUFFERED_BYTES_MAX = 256 * 1024
"""Body bytes kept per response before reading from the socket pauses; the kernel then slows the replica."""
HEADER_BYTES_MAX = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Bounds of a pool to one replica; times in seconds."""

    connections_max: int = 512
    connect_timeout_s: float = 3.0
    """Longest wait for a connection, its TLS handshake included."""
    head_timeout_s: float = 120.0
    """Longest wait for the head of an answer. A backstop: the gateway's own timeouts are shorter."""
    idle_s: float = 30.0
    """A connection unused for longer is not used again."""


DEFAULT_LIMITS = ClientLimits()


class DirectUpstream:
    """A replica that the gateway reaches over TCP itself; implements `supply.upstream.Upstream`."""

    def __init__(
        self,
        address: str,
        secret: str,
        certificate_sha256: str | None = None,
        *,
        limits: ClientLimits = DEFAULT_LIMITS,
    ) -> None:
        """`address` is IP:port, `secret` the bearer token, `certificate_sha256` the fingerprint of what is shown there.

        Without a fingerprint there is no TLS. Raises: ValueError when one is malformed, and for an address other than
        loopback without TLS.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{address!r} is not host:port")
        for text in (address, secret):  # Both come from a provider's machine and go into a request's head.
            if not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("address and secret must be printable ASCII without spaces")
        pinned = None if certificate_sha256 is None else PinnedCertificate(certificate_sha256)
        host = host.strip("[]")
        if pinned is None and not ip_address(host).is_loopback:
            raise ValueError(f"{address!r} is another machine and gives no certificate to know it by")
        self._pool = ConnectionPool(host, int(port), pinned=pinned, limits=limits)
        self._headers = (
            f" HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\n"
            "Content-Type: application/json\r\nX-Request-Id: "
        )

    async def post(self, path: str, body: bytes, *, request_id: str, deadline_ms: int) -> "HttpResponse":
        """Send a JSON body and return when the response's head has arrived.

        Raises: UpstreamBroken when no head arrives.
        """
        head = (
            f"POST {path}{self._headers}{request_id}\r\nX-Deadline-Ms: {deadline_ms}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return await self._pool.exchange(head.encode("ascii") + body)

    def close(self) -> None:
        """Abort every connection, used or not."""
        self._pool.close()


class HttpResponse:
    """An answer whose body is still arriving; implements `supply.upstream.UpstreamResponse`."""

    __slots__ = (
        "_connection",
        "_ended",
        "_failure",
        "_loop",
        "_pieces",
        "_waiter",
        "buffered_bytes",
        "status",
    )

    def __init__(self, connection: "_Connection", *, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """HTTP status; 0 until the head has arrived."""
        self.buffered_bytes = 0
        self._connection: _Connection | None = connection
        self._loop = loop
        self._pieces: list[bytes] = []
        self._ended = False
        self._failure: UpstreamBroken | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the whole body is here and was read."""
        return self._ended and not self._pieces

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises: UpstreamBroken when the connection breaks before the body's end."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        pieces = self._pieces
        while not pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            # Not by a method of its own: each chunk of each stream would come back through one frame more.
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered_bytes = 0
        if self._connection is not None:
            self._connection.resume()
        return chunk

    async def head(self) -> Self:
        """Wait for the head. Raises: UpstreamBroken."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        return self

    async def aclose(self) -> None:
        """Close the connection unless the body has ended, in which case it is already back in its pool."""
        if self._connection is not None:
            self._connection.abort("the gateway closed the response", fault=Fault.NONE)

    # What the connection tells.

    def began(self, status: int) -> None:
        """The head is complete."""
        self.status = status
        self._wake()

    def received(self, piece: bytes) -> None:
        """A part of the body is here."""
        self._pieces.append(piece)
        self.buffered_bytes += len(piece)
        self._wake()

    def ended(self) -> None:
        """The body is complete; the connection no longer belongs to this response."""
        self._ended = True
        self._connection = None
        self._wake()

    def broke(self, failure: UpstreamBroken) -> None:
        """No more will come."""
        self._failure = failure
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class ConnectionPool:
    """Connections to one host and port; the most recently used one is reused first."""

    def __init__(
        self, host: str, port: int, *, pinned: PinnedCertificate | None, limits: ClientLimits
    ) -> None:
        self._host = host
        self._port = port
        self._pinned = pinned
        self._limits = limits
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._connecting = 0

    async def exchange(self, request: bytes) -> HttpResponse:
        """Send `request` over a kept or a new connection and wait for the head. Raises: UpstreamBroken."""
        connection = self._reusable() or await self._connect()
        response = connection.start(request, head_timeout_s=self._limits.head_timeout_s)
        try:
            return await response.head()
        except BaseException:
            await response.aclose()
            raise

    def close(self) -> None:
        """Abort every connection."""
        for connection in tuple(self._open):
            connection.abort("the gateway closed its connections", fault=Fault.PLATFORM)

    def _reusable(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh(idle_s=self._limits.idle_s):
                return connection
            connection.abort("the connection is stale", fault=Fault.NONE)
        return None

    async def _connect(self) -> "_Connection":
        if len(self._open) + self._connecting >= self._limits.connections_max:
            raise UpstreamBroken(
                f"{self._limits.connections_max} connections to one replica are in use", fault=Fault.PLATFORM
            )
        self._connecting += 1
        try:
            connection = await open_connection(
                lambda: _Connection(idle=self._idle.append, lost=self._lost),
                self._host,
                self._port,
                pinned=self._pinned,
                timeout_s=self._limits.connect_timeout_s,
            )
        finally:
            self._connecting -= 1
        self._open.add(connection)
        return connection

    def _lost(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One TCP connection: one exchange at a time, handed back to the pool by `idle` when its answer is complete."""

    def __init__(
        self, *, idle: Callable[["_Connection"], None], lost: Callable[["_Connection"], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_idle = idle
        self._on_lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._response: HttpResponse | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_due_at = inf
        self._head_timeout_s = 0.0
        self._header_bytes = 0
        self._framed = False
        self._paused = False
        self._idle_since = 0.0

    # What the pool and the response ask for.

    def start(self, request: bytes, *, head_timeout_s: float) -> HttpResponse:
        """Write `request` and return the response that will fill."""
        assert self._response is None, "one exchange at a time"
        self._response = HttpResponse(self, loop=self._loop)
        self._header_bytes = 0
        self._framed = False
        self._head_timeout_s = head_timeout_s
        self._head_due_at = self._loop.time() + head_timeout_s
        if self._head_timer is None:
            self._head_timer = self._loop.call_at(self._head_due_at, self._check_head)
        self._transport.write(request)
        return self._response

    def is_fresh(self, *, idle_s: float) -> bool:
        """Whether the connection may be used again: open, not idle for too long, and nothing to read (not even EOF).

        Under TLS the poll sees records. What may come between answers is a farewell or a session ticket; a ticket that
        is not read yet costs a connection, and replicas send none.
        """
        if self._transport.is_closing() or self._loop.time() - self._idle_since > idle_s:
            return False
        return not self._poll.poll(0)

    def resume(self) -> None:
        """The response's buffer is empty again."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def abort(self, reason: str, *, fault: Fault) -> None:
        """Close the socket at once and break the response, if one is under way."""
        self._break(UpstreamBroken(reason, fault=fault))
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._response is None:
            self.abort("the replica sent what nobody asked for", fault=Fault.PROVIDER)
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # A rule of ours that a callback below raised is the context of httptools' own error.
            self.abort(
                f"the replica's answer is no valid HTTP: {error.__context__ or error}", fault=Fault.PROVIDER
            )

    def connection_lost(self, error: Exception | None) -> None:
        self._break(UpstreamBroken("the replica closed the connection", fault=whose(error)))
        self._on_lost(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._response is None:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError(f"headers over {HEADER_BYTES_MAX} bytes")
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or not self._framed:
            raise ValueError(f"status {status} with no length or chunks: it could end anywhere")
        self._head_due_at = inf
        if self._response is not None:
            self._response.began(status)

    def on_body(self, piece: bytes) -> None:
        response = self._response
        if response is None:
            return
        response.received(piece)
        if response.buffered_bytes > BUFFERED_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        response.ended()
        if self._parser.should_keep_alive():
            self.resume()
            self._idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self._transport.close()

    def _break(self, failure: UpstreamBroken) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        response, self._response = self._response, None
        if response is not None:
            response.broke(failure)

    def _check_head(self) -> None:
        # One timer for all exchanges of a connection: it mostly fires for one that is long over, and goes on.
        self._head_timer = None
        if self._head_due_at <= self._loop.time():
            self.abort(f"no answer within {self._head_timeout_s:g} s", fault=Fault.PROVIDER)
        elif self._head_due_at < inf:
            self._head_timer = self._loop.call_at(self._head_due_at, self._check_head)
