"""A connection of the HTTP server: requests in, one exchange after the other, limits on everything a client decides.

What limits it: a request's receipt has a deadline, its head a size, its body is read no faster than the application takes
it; a client that does not read its answer for long has left. Written for requests that fit in one read: one parser call,
one task, one write, and no timer of their own.
"""

import asyncio
from collections import deque
from typing import Any, ClassVar

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from raymart_marketplace.gateway.http_server.connection import Connection
from raymart_marketplace.gateway.http_server.exchange import ON_LEAVE, Exchange
from raymart_marketplace.gateway.http_server.refusal import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    TOO_MANY_AHEAD,
    Refusal,
    RequestRefused,
)
from raymart_marketplace.gateway.http_server.request_head import check_head, head_bytes
from raymart_marketplace.gateway.http_server.target import read_target
from raymart_marketplace.gateway.http_server.websocket import asks_for_websocket, hand_over

BUFFERED_BYTES_MAX = 64 * 1024
"""Of bodies that no application has taken; beyond, the connection is not read."""
AHEAD_MAX = 16
"""Requests waiting for the answers to those before them; beyond, the connection is not read."""
AHEAD_IN_ONE_READ_MAX = 256
"""What one read may bring besides; a client that sends more is refused."""
LINGER_S = 2.0
"""How long a refused client's bytes are read and dropped: to close at once would reset the connection, and the client
would never see why. Source: RFC 9112, section 9.6."""
SILENCE_S = 1.0
"""How long a new connection may still bring its first request once the server is to stop."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class HttpServerProtocol(Connection):
    """One connection. uvicorn makes it, and asks it to `shutdown`."""

    receipt_timeout_s: ClassVar[float] = 15.0
    """From the first byte of a request (for a connection's first request: from its opening) to the last."""
    unread_timeout_s: ClassVar[float] = 60.0
    """How long a client may leave an answer unread before it counts as gone."""
    head_bytes_max: ClassVar[int] = 32 * 1024

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn calls it; of `config` only the application, headers, keep-alive and WebSockets' settings are used."""
        super().__init__(server_state, _loop or asyncio.get_running_loop())
        self._config = config
        self._app: ASGIApp = config.loaded_app
        self._app_state = app_state
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None

        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        """How much of a head that is not whole has come."""
        self._is_in_head = False
        self._is_in_body = False
        self._method = b""
        self._read_has_end = False
        """Whether the read at hand began with the end of another message."""

        self._received: Exchange | None = None
        """Whose body comes."""
        self._current: Exchange | None = None
        """Who may answer."""
        self._ahead: deque[tuple[Exchange, Scope]] = deque()
        self._buffered_bytes = 0
        self._refusal: Refusal | None = None
        self._is_draining = False
        self._waits_since = 0.0
        """Since when the client keeps us waiting, where it does."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP and TLS only
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._is_receiving = True
        self._waits_since = self._loop.time()
        self._timer = self._loop.call_later(self.receipt_timeout_s, self._look)

    def data_received(self, data: bytes) -> None:
        """Parse `data`, unless the head grows past its cap."""
        if self._refusal is not None:
            return
        self._read_has_end = self._is_in_body
        self._feed(data)
        if self._is_in_head and not self._read_has_end and self._refusal is None:
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._refuse(HEAD_TOO_LARGE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who answers, at once."""
        super().connection_lost(exc)
        self._stop_looking()
        self._parser = None  # It holds this object.
        for exchange, _ in self._ahead:
            exchange.leave()
        self._ahead.clear()
        if self._current is not None:
            self._current.leave()

    # uvicorn

    def shutdown(self) -> None:
        """Take no more requests than have begun to come; each is answered, then the connection closes."""
        self._is_draining = True
        if self._current is None:
            self._look()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins to come."""
        self._url, self._headers, self._head_bytes = b"", [], 0
        self._is_in_head = True
        if not self._is_receiving:
            self._is_receiving = True
            self._waits_since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Let the application begin, or wait for its turn. Raises: RequestRefused."""
        self._is_in_head, self._is_in_body = False, True
        assert self._parser is not None
        version = self._parser.get_http_version()
        expects_continue = check_head(self._url, self._headers, version, bytes_max=self.head_bytes_max)
        method = self._method = self._parser.get_method()
        if self._parser.should_upgrade():
            if method == b"CONNECT":
                raise RequestRefused(BAD_REQUEST)
            return  # The parser stops behind the head, and `_feed` goes on.
        exchange = Exchange(
            self,
            is_head_request=method == b"HEAD",
            keeps_alive=version == "1.1" and self._parser.should_keep_alive(),
            understands_chunks=version == "1.1",
            expects_continue=expects_continue,
        )
        scope = self._scope(method.decode("ascii"), version, exchange)
        if len(self._ahead) >= AHEAD_IN_ONE_READ_MAX:
            raise RequestRefused(TOO_MANY_AHEAD)
        self._received = exchange
        if self._current is None:
            self._start(exchange, scope)
        else:
            self._ahead.append((exchange, scope))
            self._balance_reading()

    def on_body(self, body: bytes) -> None:
        """A part of a body; what nobody waits for any more is dropped."""
        exchange = self._received
        if exchange is None:
            raise RequestRefused(BAD_REQUEST)
        if not exchange.is_complete:
            exchange.feed(body)
            self._buffered_bytes += len(body)
            if self._buffered_bytes > BUFFERED_BYTES_MAX:
                self._balance_reading()

    def on_message_complete(self) -> None:
        """The request is here; from now on the time is ours."""
        self._is_in_body = self._is_receiving = False
        self._read_has_end = True
        exchange, self._received = self._received, None
        if exchange is None:
            return
        exchange.end_body()
        if exchange.is_complete:
            self._rest()

    # What an exchange says

    @property
    def is_ending(self) -> bool:
        """Whether the answer that begins now is the connection's last."""
        return self._is_draining and not self._ahead

    def body_taken(self, size: int) -> None:
        """The application took, or will never take, this many bytes of a body."""
        self._buffered_bytes -= size
        if self._is_read_paused:
            self._balance_reading()

    def answered(self, exchange: Exchange) -> None:
        """The answer is complete: on to the next request."""
        self._server_state.total_requests += 1
        self._current = None
        if not exchange.keeps_alive:
            self._end()
        elif self._ahead:
            self._start(*self._ahead.popleft())
            self._balance_reading()
        elif self._refusal is not None:
            self._say(self._refusal)
        elif not self._is_receiving:
            self._rest()

    def finished(self) -> None:
        """The application's task ends."""
        task = asyncio.current_task()
        assert task is not None
        self._server_state.tasks.discard(task)

    # Requests

    def _feed(self, data: bytes) -> None:
        while data:
            assert self._parser is not None
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                # And may have one: nothing of before it is still to be answered.
                if self._current is None and asks_for_websocket(self._headers, self._config):
                    self._hand_over(data)
                    return
                # To whatever else we answer in HTTP/1.1, as a server may. The parser would take a body for what
                # follows in the other protocol, so it reads the head once more without the wish.
                self._parser = httptools.HttpRequestParser(self)
                data = head_bytes(self._method, self._url, self._headers, without=b"upgrade") + data
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(cause.refusal if isinstance(cause, RequestRefused) else BAD_REQUEST)
                return
            else:
                return

    def _scope(self, method: str, version: str, exchange: Exchange) -> Scope:
        path, raw_path, query = read_target(self._url)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self._scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "state": self._app_state.copy(),
            "extensions": {ON_LEAVE: exchange.on_leave},
        }

    def _start(self, exchange: Exchange, scope: Scope) -> None:
        self._current = exchange
        self._server_state.tasks.add(self._loop.create_task(exchange.run(self._app, scope)))

    def _hand_over(self, rest: bytes) -> None:
        """Give the connection to uvicorn's WebSocket protocol."""
        self._stop_looking()
        self._server_state.connections.discard(self)
        self._parser = None
        hand_over(
            self.transport,
            config=self._config,
            server_state=self._server_state,
            app_state=self._app_state,
            head=head_bytes(self._method, self._url, self._headers),
            rest=rest,
        )

    def _refuse(self, refusal: Refusal) -> None:
        """Serve what came before, then say `refusal` and close."""
        self._refusal = refusal
        broken, self._received = self._received, None
        if broken is None:
            if self._current is None:
                self._say(refusal)
        elif broken is self._current:
            self._current = None
            is_late = broken.has_begun
            broken.leave()
            self._end() if is_late else self._say(refusal)
        elif broken.is_complete:
            self._end()
        else:  # Nobody has seen it.
            self._ahead.pop()

    def _say(self, refusal: Refusal) -> None:
        self.transport.write(refusal.answer(self.common_lines()))
        self._end()

    # The connection

    def _rest(self) -> None:
        """No request is here, and none is answered."""
        self._waits_since = self._loop.time()
        if self._is_draining:
            self._end()

    def _end(self) -> None:
        """Close once everything is sent; what a client still sends is dropped until it closes too, or for a while."""
        is_sending = self._is_receiving or self._refusal is not None
        self._refusal = self._refusal or BAD_REQUEST  # Nothing is read any more.
        if is_sending and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self._waits_since = self._loop.time()
            self._resume_reading()
            self._look()
        else:
            self.transport.close()

    def _balance_reading(self) -> None:
        """Read while there is room for what comes."""
        is_full = self._buffered_bytes > BUFFERED_BYTES_MAX or len(self._ahead) > AHEAD_MAX
        if not is_full:
            self._resume_reading()
        else:
            self._pause_reading()

    # Patience: one timer for the connection's whole life, which looks now and then instead of being set each time.

    def _look(self) -> None:
        """End the connection if the client has kept us waiting too long; otherwise look again in time."""
        self._stop_looking()
        now = self._loop.time()
        if self._is_receiving and self._is_read_paused:
            self._waits_since = now  # It is we who do not read.
        since, limit_s = self._patience(now)
        left_s = since + limit_s - now
        if left_s <= 0:
            self.transport.abort() if self.is_write_paused or self.transport.is_closing() else self.transport.close()
        # Even an end takes time, with a client that does not read what is left to send.
        wait_s = min(left_s, self.receipt_timeout_s) if left_s > 0 else self.receipt_timeout_s
        self._timer = self._loop.call_later(wait_s, self._look)

    def _patience(self, now: float) -> tuple[float, float]:
        """Since when we wait for the client, and how long we do."""
        if self.is_write_paused:
            return self._unread_since, self.unread_timeout_s
        if self._refusal is not None and self._current is None:
            return self._waits_since, LINGER_S
        if self._is_receiving:
            is_silent = not self._is_in_head and not self._is_in_body
            return self._waits_since, SILENCE_S if is_silent and self._is_draining else self.receipt_timeout_s
        if self._current is None:
            return self._waits_since, 0.0 if self._is_draining else self._config.timeout_keep_alive
        return now, self.receipt_timeout_s

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
