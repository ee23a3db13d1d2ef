"""One connection of the replica's HTTP server: parse, check, run the handler, keep alive."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, cast

import httptools
import structlog

from raymart_core.units import Fault
from raymart_core.wire.image import IMAGE_BODY_BYTES_MAX, IMAGE_PATH
from raymart_serve.replica.http_exchange import Exchange, ReaderTooSlow, Request

log = structlog.get_logger()

Handler = Callable[[Request, Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a peer may use. Times in seconds, sizes in bytes."""

    connections_max: int = 512
    header_bytes_max: int = 16 * 1024
    body_bytes_max: int = 4 * 1024 * 1024
    large_body_bytes_max: Mapping[str, int] = field(
        default_factory=lambda: {IMAGE_PATH: IMAGE_BODY_BYTES_MAX}
    )
    """For paths that take more."""
    request_timeout_s: float = 20.0
    """From a request's first byte to its last."""
    write_timeout_s: float = 30.0
    """How long a full send buffer may stay full."""
    send_buffer_bytes: int = 64 * 1024
    """Kernel's and transport's buffer each; a stream runs ahead of its reader by no more."""


class ConnectionOwner(Protocol):
    """The server that a connection belongs to."""

    limits: HttpLimits
    secret: bytes
    handler: Handler

    def opened(self, connection: "Connection") -> bool:
        """Count the connection in; False when there is no room."""

    def closed(self, connection: "Connection") -> None:
        """Count it out."""


class Refused(Exception):
    """The request is answered with `status` and the connection closed. Raised and caught inside this module."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Connection(asyncio.Protocol):
    """Strictly one request, then its answer. Bytes that come while a request is handled end the connection."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused: Refused | None = None
        self.trusted = False
        """Whether a request on this connection has shown the secret."""
        self._begin()

    @property
    def idle(self) -> bool:
        """Whether no request is being read or handled."""
        return self._task is None and self._timer is None

    def close(self) -> None:
        """End the connection at once; a running handler is cancelled, bytes not yet sent are dropped."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """End the connection when the answer is sent to its last byte; at once when it is still being made."""
        if self._task is not None:
            self.close()
        elif self._transport is not None:
            self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it when there are too many."""
        # Serve's loop is uvloop, whose transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.send_buffer_bytes)
        if not self._owner.opened(self):
            self._answer_and_close(
                Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; close some")
            )

    def data_received(self, data: bytes) -> None:
        """Parse; start the handler when the request is whole."""
        if self._task is not None:
            log.warning("http.pipelining_refused")
            self.close()
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                self._limits.request_timeout_s, self._too_late
            )
        if not self._headers_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            self._check_head_size()
        except Refused as refused:
            self._answer_and_close(refused)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # The parser wraps what a callback raises; the refusal itself was kept aside.
            malformed = Refused(HTTPStatus.BAD_REQUEST, f"the request is not valid HTTP/1.1: {error}")
            self._answer_and_close(self._refused or malformed)
        else:
            if self._complete:
                self._handle()

    def eof_received(self) -> None:
        """The peer has sent its last byte: it has left, for a caller that only half closes is none of ours."""
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what the peer no longer waits for."""
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._owner.closed(self)

    def pause_writing(self) -> None:
        """Hold the handler's next write."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """Let the handler go on."""
        if self._exchange is not None:
            self._exchange.resume()

    # What the parser calls. An exception from here comes out of `feed_data` wrapped.

    def on_message_begin(self) -> None:
        """A request begins; a second one behind the first is pipelining."""
        if self._complete:
            self._refuse(HTTPStatus.BAD_REQUEST, "requests must not be pipelined; wait for the answer")

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Check all that needs no body: the secret first, so that a stranger's body is never read."""
        self._headers_complete = True
        expected = b"Bearer " + self._owner.secret
        if not hmac.compare_digest(self._headers.get("authorization", "").encode("latin-1"), expected):
            self._refuse(HTTPStatus.UNAUTHORIZED, "wrong or missing bearer secret of this replica")
        self.trusted = True
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._body_bytes_max:
            self._refuse_body()
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body
        if len(self._body) > self._body_bytes_max:
            self._refuse_body()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._complete = True

    # Own affairs.

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head_bytes = 0
        self._headers_complete = False
        self._complete = False

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._refused = Refused(status, message)
        raise self._refused

    @property
    def _path(self) -> str:
        return self._target.partition(b"?")[0].decode("latin-1")

    @property
    def _body_bytes_max(self) -> int:
        return self._limits.large_body_bytes_max.get(self._path, self._limits.body_bytes_max)

    def _refuse_body(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is over {self._body_bytes_max} bytes; send less"
        )

    def _check_head_size(self) -> None:
        fields = sum(len(name) + len(value) for name, value in self._headers.items()) + len(self._target)
        size = fields if self._headers_complete else max(fields, self._head_bytes)
        if size > self._limits.header_bytes_max:
            limit = self._limits.header_bytes_max
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is over {limit} bytes")

    def _handle(self) -> None:
        assert self._transport is not None
        self._stop_timer()
        exchange = Exchange(self._transport, write_timeout_s=self._limits.write_timeout_s)
        exchange.close_after = not self._parser.should_keep_alive()
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=self._path,
            headers=self._headers,
            body=bytes(self._body),
        )
        self._exchange = exchange
        self._task = asyncio.get_running_loop().create_task(self._run(request, exchange))

    async def _run(self, request: Request, exchange: Exchange) -> None:
        try:
            await self._owner.handler(request, exchange)
        except ReaderTooSlow:
            log.info("http.reader_too_slow", path=request.path)
            exchange.close_after = True
        except Exception:
            log.exception("http.handler_failed", path=request.path)
            if not exchange.started:
                message = "the replica failed in a way it did not expect"
                exchange.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, message, fault=Fault.PROVIDER)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        assert self._transport is not None
        self._task = self._exchange = None
        if not exchange.finished:
            # A body cut short must not look whole: without the last chunk the peer sees the break.
            self._transport.abort()
        elif exchange.close_after:
            self._transport.close()
        else:
            self._begin()

    def _too_late(self) -> None:
        self._answer_and_close(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answer_and_close(self, refused: Refused) -> None:
        assert self._transport is not None
        self._stop_timer()
        exchange = Exchange(self._transport, write_timeout_s=self._limits.write_timeout_s)
        exchange.close_after = True
        # The peer here is the gateway or an agent, never a customer: a malformed request is the platform's own.
        exchange.refuse(refused.status, refused.message, fault=Fault.PLATFORM)
        self._transport.close()
