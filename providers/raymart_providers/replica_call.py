"""One HTTP request to a replica on this machine, carried for a stream of the link. Callbacks only, no task to wait in."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from raymart_core.units import Fault
from raymart_core.wire.flow import ReceiveWindow, SendWindow
from raymart_core.wire.link import FrameType, OpenRequest, Reset, ResetCode, ResponseHead, encode
from raymart_providers.replicas import LocalReplica

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Largest request body; it is collected before it is sent, so that the replica sees its length first."""
_CONNECT_TIMEOUT_S = 5.0
_DEADLINE_SLACK_S = 2.0
"""The replica keeps the deadline itself; a call that outlives it by this much is cut."""
_CONTENT_TYPE_MAX = 200


class CallRefused(Exception):
    """The stream cannot go on; `reset` is told to the marketplace."""

    def __init__(self, reset: Reset) -> None:
        super().__init__(reset.message)
        self.reset = reset


def provider_reset(code: ResetCode, message: str) -> Reset:
    """A RESET from this side; a long message is cut."""
    return Reset(code=code, message=message[:300], fault=Fault.PROVIDER)


class Caller(Protocol):
    """The stream that a call works for."""

    @property
    def has_room(self) -> bool:
        """Whether the link takes more data now."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the link takes more data."""

    def send_data(self, payload: bytes) -> None:
        """Queue a piece of the response's body, of at most `FRAME_BYTES_MAX`."""

    def send(self, kind: FrameType, payload: bytes) -> None:
        """Queue another frame of the response."""

    def credit(self, byte_count: int) -> None:
        """Let more of the request's body come."""

    def finished(self) -> None:
        """The whole response has been sent."""

    def failed(self, reset: Reset) -> None:
        """The call is over without a whole response."""


class ReplicaCall(asyncio.Protocol):
    """Connects at once, sends the request when its body is complete, forwards the response as it arrives."""

    def __init__(self, request: OpenRequest, replica: LocalReplica, caller: Caller) -> None:
        self._request = request
        self._secret = replica.registration.secret
        self._caller = caller
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_complete = False
        self._receive_window = ReceiveWindow()
        self._send_window = SendWindow()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._content_type = ""
        self._waiting: list[bytes] = []
        """Response bytes that the window or the link has no room for."""
        self._head_sent = False
        self._complete = False
        self._paused = False
        self._wants_room = False
        self._over = False
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            max(0, request.deadline_ms) / 1000 + _DEADLINE_SLACK_S, self._fail, "the deadline passed"
        )
        self._connecting = asyncio.create_task(self._connect(replica.host, replica.port))

    # What the stream asks for.

    def add_body(self, payload: bytes) -> None:
        """More of the request's body. Raises: CallRefused."""
        if self._body_complete:
            raise CallRefused(provider_reset("protocol", "DATA after END"))
        try:
            self._receive_window.arrived(len(payload))
        except ValueError as error:
            raise CallRefused(provider_reset("limit", str(error))) from None
        self._body_bytes += len(payload)
        if self._body_bytes > BODY_BYTES_MAX:
            raise CallRefused(provider_reset("limit", f"a request body is at most {BODY_BYTES_MAX} bytes"))
        self._body.append(payload)
        if credit := self._receive_window.consumed(len(payload)):
            self._caller.credit(credit)

    def end_body(self) -> None:
        """The request's body is complete. Raises: CallRefused."""
        if self._body_complete:
            raise CallRefused(provider_reset("protocol", "a second END"))
        self._body_complete = True
        if self._transport is not None:
            self._send_request()

    def grant(self, byte_count: int) -> None:
        """Credit for the response. Raises: ValueError."""
        self._send_window.grant(byte_count)
        self._flush()

    def abort(self) -> None:
        """Close the connection at once; nothing more is told to the caller. Safe to call twice."""
        self._over = True
        self._deadline.cancel()
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._connecting.cancel()

    # asyncio.Protocol, and httptools' callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request if its body is here."""
        # Not an assertion: uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self._over:
            self._transport.abort()
        elif self._body_complete:
            self._send_request()

    def data_received(self, data: bytes) -> None:
        """Parse and forward."""
        if self._over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the replica answered no HTTP: {error}", code="protocol")
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends before the response does is a lost replica."""
        if not self._over and not self._complete:
            self._fail(f"the replica closed the connection ({exc or 'end of stream'})")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the content type."""
        if name.lower() == b"content-type":
            self._content_type = value.decode("latin-1")[:_CONTENT_TYPE_MAX]

    def on_headers_complete(self) -> None:
        """Forward the head."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._head_sent:
            self._head_sent = True
            head = ResponseHead(status=status, content_type=self._content_type)
            self._caller.send(FrameType.HEAD, encode(head))

    def on_body(self, body: bytes) -> None:
        """Queue a piece of the body."""
        self._waiting.append(body)

    def on_message_complete(self) -> None:
        """The response's end is known; it is forwarded behind its body. An interim (1xx) answer is no end."""
        self._complete = self._head_sent

    # Below: the two directions.

    async def _connect(self, host: str, port: int) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        except OSError as error:
            self._fail(f"the replica cannot be reached ({error})")

    def _send_request(self) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return  # `connection_lost` follows and tells.
        body = b"".join(self._body)
        self._body.clear()
        request = self._request
        head = (
            f"{request.method} {request.path} HTTP/1.1\r\nHost: replica\r\n"
            f"Authorization: Bearer {self._secret}\r\nX-Request-Id: {_header(request.request_id)}\r\n"
            f"X-Deadline-Ms: {request.deadline_ms}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + body)

    def _flush(self) -> None:
        """Forward what window and link have room for; stop reading from the replica while something waits."""
        while self._waiting and not self._over:
            if not self._caller.has_room:
                self._ask_for_room()
                break
            if len(self._waiting) > 1:
                # Pieces that arrived together travel as one frame.
                pieces = b"".join(self._waiting)
                self._waiting.clear()
                self._waiting.append(pieces)
            piece = self._waiting[0]
            size = self._send_window.take(len(piece))
            if size == 0:
                break
            if size == len(piece):
                self._caller.send_data(piece)
                self._waiting.clear()
            else:
                self._caller.send_data(piece[:size])
                self._waiting[0] = piece[size:]
        if self._over:
            return
        self._pause(paused=bool(self._waiting))
        if self._complete and not self._waiting:
            self._caller.finished()

    def _ask_for_room(self) -> None:
        if not self._wants_room:
            self._wants_room = True
            self._caller.when_room(self._take_room)

    def _take_room(self) -> None:
        self._wants_room = False
        self._flush()

    def _pause(self, *, paused: bool) -> None:
        if self._transport is None or paused == self._paused or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _fail(self, reason: str, *, code: ResetCode = "replica_lost") -> None:
        if self._over:
            return
        if self._waiting and code == "replica_lost" and self._transport is not None:
            # Bytes that the replica did deliver are the customer's; they go out before the news.
            self._deliver_rest()
        self._caller.failed(provider_reset(code, reason))

    def _deliver_rest(self) -> None:
        """Forward what the window still allows; the rest is lost with the replica."""
        rest = b"".join(self._waiting)
        self._waiting.clear()
        while rest and (size := self._send_window.take(len(rest))):
            self._caller.send_data(rest[:size])
            rest = rest[size:]


def _header(value: str) -> str:
    """`value` fit for a header: a request id is ours, but nothing on the link may add a line to a request."""
    return "".join(character for character in value[:200] if character.isascii() and character.isprintable())
