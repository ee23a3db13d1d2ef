"""The node's artifact server: other nodes of the pool fetch from here what this one has.

`GET /artifacts/<stored digest>` with one Range and a token that the marketplace made with our secret. Threads and
`sendfile`, because the event loop's own way would copy every byte through Python.
"""

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog

from raymart_core.wire.link import ARTIFACT_PATH
from raymart_core.wire.manifest import SHA256_HEX
from raymart_core.wire.peer_token import revision_of_token

log = structlog.get_logger()

_CONNECTIONS_MAX = 32
_IDLE_S = 20.0
_HEAD_BYTES_MAX = 8 * 1024
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})", re.ASCII)

Lookup = Callable[[str, str], Path | None]
"""The file of a stored digest, if it belongs to the revision and both are here. Called from many threads."""


@dataclass(frozen=True, slots=True)
class _Ask:
    method: str
    path: str
    token: str
    range: str


class _Refused(Exception):
    """Raised and caught inside this module."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class ArtifactServer:
    """Serves until `stop`. `secret` goes to the marketplace with each announcement."""

    def __init__(self, lookup: Lookup, *, host: str, clock: Callable[[], float] = time.time) -> None:
        self.secret = secrets.token_urlsafe(32)
        self._lookup = lookup
        self._host = host
        self._clock = clock
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self) -> str:
        """Listen on a free port of `host`; its "host:port". Raises: OSError."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family, backlog=_CONNECTIONS_MAX)
        threading.Thread(target=self._accept, args=(self._listener,), name="artifacts", daemon=True).start()
        port = self._listener.getsockname()[1]
        return f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"

    def stop(self) -> None:
        """Stop listening and break what runs; the other node goes on elsewhere. Safe to call twice."""
        if self._listener is not None:
            # A thread that waits in accept does not notice a mere close.
            _shut(self._listener)
            self._listener = None
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                listener.close()
                return
            connection.settimeout(_IDLE_S)
            with self._lock:
                full = len(self._open) >= _CONNECTIONS_MAX
                if not full:
                    self._open.add(connection)
            if full:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="artifact", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            pending = bytearray()
            while (ask := _read_ask(connection, pending)) is not None:
                try:
                    self._answer(connection, ask)
                except _Refused as refused:
                    connection.sendall(_head(refused.status, "Content-Length: 0"))
        except (OSError, ValueError) as error:
            # The peer left, idled, or speaks no HTTP: nothing is owed to it.
            log.debug("artifact.connection_ended", reason=str(error))
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, ask: _Ask) -> None:
        if ask.method != "GET":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        revision = revision_of_token(ask.token, secret=self.secret, now_s=self._clock())
        if revision is None:
            raise _Refused(HTTPStatus.UNAUTHORIZED)
        name = ask.path.removeprefix(ARTIFACT_PATH)
        path = self._lookup(revision, name) if SHA256_HEX.fullmatch(name) else None
        if path is None:
            raise _Refused(HTTPStatus.NOT_FOUND)
        with path.open("rb") as file:
            total = file.seek(0, 2)
            asked = _RANGE.fullmatch(ask.range)
            first, last = (int(asked[1]), int(asked[2])) if asked else (0, -1)
            if not first <= last < total:
                raise _Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            length = last - first + 1
            connection.sendall(
                _head(
                    HTTPStatus.PARTIAL_CONTENT,
                    f"Content-Length: {length}",
                    f"Content-Range: bytes {first}-{last}/{total}",
                    "Content-Type: application/octet-stream",
                )
            )
            if connection.sendfile(file, offset=first, count=length) != length:
                raise OSError("the artifact became shorter while it was sent")


def _read_ask(connection: socket.socket, pending: bytearray) -> _Ask | None:
    """The next request; None at the end. Raises: ValueError for what is none, OSError."""
    while (end := pending.find(b"\r\n\r\n")) < 0:
        if len(pending) > _HEAD_BYTES_MAX:
            raise ValueError("the head is too long")
        received = connection.recv(_HEAD_BYTES_MAX)
        if not received:
            return None
        pending += received
    request_line, *lines = bytes(pending[:end]).decode("latin-1").split("\r\n")
    del pending[: end + 4]
    method, path, _ = request_line.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ValueError("a request with a body")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return _Ask(method, path, token if scheme == "Bearer" else "", headers.get("range", ""))


def _head(status: HTTPStatus, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status.value} {status.phrase}", *headers, "", ""]).encode("ascii")


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        log.debug("artifact.already_shut", reason=str(error))
