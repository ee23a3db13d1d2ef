"""One request and its answer, as an ASGI application sees them."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Message, Scope

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.gateway.http_server.answer_head import answer_head

if TYPE_CHECKING:
    from raymart_marketplace.gateway.http_server.protocol import HttpServerProtocol

log = structlog.get_logger(__name__)

ON_LEAVE = "raymart.on_leave"
"""An ASGI extension of ours: a function that takes what to call, at once, when the client leaves; None for nobody.

To wait for `http.disconnect` instead takes a task of its own, for every request."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FAILED = b"internal server error"
_DISCONNECT: Message = {"type": "http.disconnect"}
_BODILESS = frozenset({204, 304})


class Framing(Enum):
    """How the client knows where a body ends. Source: RFC 9112, section 6."""

    NONE = auto()
    """There is no body, whatever the head says of its length."""
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    """Where the connection ends, for clients of HTTP/1.0."""


class Exchange:
    """`receive` and `send` of one request. Its connection feeds it, and hears when the answer is complete."""

    __slots__ = (
        "_body_is_told", "_body_is_whole", "_connection", "_expects_continue", "_framing", "_head",
        "_is_head_request", "_left_to_send", "_news", "_on_leave", "_pieces", "_understands_chunks", "has_begun", "has_left",
        "is_complete", "keeps_alive",
    )  # fmt: skip

    def __init__(
        self,
        connection: "HttpServerProtocol",
        *,
        is_head_request: bool,
        keeps_alive: bool,
        understands_chunks: bool,
        expects_continue: bool,
    ) -> None:
        self._connection = connection
        self._is_head_request = is_head_request
        self.keeps_alive = keeps_alive
        """Whether another request may follow on the connection."""
        self._understands_chunks = understands_chunks
        self._expects_continue = expects_continue
        self._pieces: list[bytes] = []
        self._body_is_whole = False
        self._body_is_told = False
        self._news: asyncio.Event | None = None
        self._on_leave: Callable[[], None] | None = None
        self.has_begun = False
        """Whether there is a head."""
        self._head = b""
        """Not sent yet: it travels with the first of the body."""
        self._framing = Framing.NONE
        self._left_to_send = 0
        self.is_complete = False
        """The whole answer was sent."""
        self.has_left = False
        """The connection is gone."""

    # What the connection tells

    def feed(self, piece: bytes) -> None:
        """A part of the body came."""
        self._pieces.append(piece)
        self._tell()

    def end_body(self) -> None:
        """The body is whole."""
        self._body_is_whole = True
        self._tell()

    def leave(self) -> None:
        """The client is gone."""
        self.has_left = True
        self._tell()
        if self._on_leave is not None and not self.is_complete:
            self._on_leave()

    # What the application calls

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let `app` answer; what it leaves undone ends the answer so that the client can tell."""
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:
            if self.has_left:  # What `http.disconnect` makes of an application is mostly that.
                log.info("http.app_abandoned", path=scope["path"], error=type(error).__name__)
            else:
                log.exception("http.app_failed", path=scope["path"])
        finally:
            if not self.is_complete and not self.has_left:
                self._fail()
            self._connection.finished()

    def on_leave(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when the client leaves before its answer is complete; at once if it has left."""
        self._on_leave = callback
        if callback is not None and self.has_left:
            callback()

    async def receive(self) -> Message:
        """The next of the body, then, when the client has left or its answer is complete, `http.disconnect`."""
        if self._expects_continue and not self.has_begun and not self.has_left:
            self._expects_continue = False
            self._connection.transport.write(_CONTINUE)
        while not self.has_left and not self.is_complete:
            if self._pieces or (self._body_is_whole and not self._body_is_told):
                return self._next_of_body()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return _DISCONNECT

    async def send(self, message: Message) -> None:
        """Send the head, or a part of the body; waits while the client does not read. What comes after it left is dropped.

        Raises: RuntimeError for messages out of order and for a body that is not as long as was said.
        """
        if self._connection.is_write_paused:
            await self._connection.drain()
        if self.has_left:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.has_begun and not self.is_complete:
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        elif kind == "http.response.start" and not self.has_begun:
            self._begin(message)
        else:
            raise RuntimeError(f"{kind!r} is out of order here")

    # Helpers

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    def _next_of_body(self) -> Message:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if body:
            self._connection.body_taken(len(body))
        self._body_is_told = self._body_is_whole
        return {"type": "http.request", "body": body, "more_body": not self._body_is_whole}

    def _begin(self, message: Message) -> None:
        head = answer_head(message["status"], message.get("headers", ()))
        self._framing = self._framing_of(message["status"], head.content_length)
        self._left_to_send = head.content_length or 0
        lines = [head.data, b"\r\n", self._connection.common_lines()]
        if not head.names_request:
            lines.append(b"x-request-id: %b\r\n" % show(Prefix.REQUEST, new_id()).encode())
        if self._framing is Framing.CHUNKED:
            lines.append(b"transfer-encoding: chunked\r\n")
            # A stream's first bytes may take their time, and the client wants to know that it begins.
            asyncio.get_running_loop().call_soon(self._send_head)
        if head.asks_to_close or self._framing is Framing.CLOSE or self._connection.is_ending:
            self.keeps_alive = False
        if not self.keeps_alive and not head.asks_to_close:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        self.has_begun = True

    def _framing_of(self, status: int, content_length: int | None) -> Framing:
        if self._is_head_request or status in _BODILESS:
            return Framing.NONE
        if content_length is not None:
            return Framing.LENGTH
        return Framing.CHUNKED if self._understands_chunks else Framing.CLOSE

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head and not self.has_left:
            self._connection.transport.write(head)

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        framing = self._framing
        if framing is Framing.CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_last:
                data += b"0\r\n\r\n"
        elif framing is Framing.LENGTH:
            data = body
            self._left_to_send -= len(body)
            if self._left_to_send < 0 or (is_last and self._left_to_send):
                raise RuntimeError(f"the body misses its content-length by {-self._left_to_send} bytes")
        else:
            data = b"" if framing is Framing.NONE else body
        if self._head and (data or is_last):
            data, self._head = self._head + data, b""
        if data:
            self._connection.transport.write(data)
        if is_last:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        self._on_leave = None
        if self._pieces:  # Answered before it was read, such as a body that is too large.
            self._connection.body_taken(sum(map(len, self._pieces)))
            self._pieces.clear()
        self._tell()
        self._connection.answered(self)

    def _fail(self) -> None:
        """Say that no answer comes, or, where one has begun, cut it short."""
        self.keeps_alive = False
        if self.has_begun and not self._head:
            self._connection.transport.close()
            return
        self.has_begun = False
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_FAILED))]
        self._begin({"type": "http.response.start", "status": 500, "headers": headers})
        self._send_body(_FAILED, is_last=True)
