"""Where the bytes of an artifact can be had: the object store by a signed URL, or a node of the same pool.

One kind of request: `GET` with one range, answered by exactly these bytes. Blocking, for use in threads.
The standard library's client reads the head; a body that is not encrypted goes from the kernel into our buffer.

    SourceFailed (RaymartError)
    ├── SourceDenied      the URL or token is not, or no longer, good: ask the marketplace for another
    └── SourceAway        nobody listens there
"""

import http.client
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from raymart_core.errors import RaymartError

_TIMEOUT_S = 20.0
"""For the connection and for each wait for bytes."""
_CHUNK_BYTES = 1024 * 1024
_URL_CHARACTERS_MAX = 8 * 1024


class SourceFailed(RaymartError):
    """This source did not give the bytes; another one, or another time, may."""


class SourceDenied(SourceFailed):
    """The source does not let us: a signed URL or a token has expired."""


class SourceAway(SourceFailed):
    """No connection can be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSource:
    """One place that has the whole artifact."""

    kind: Literal["peer", "origin"]
    url: str
    """http:// or https://; a signed URL carries its own permission."""
    token: str = field(default="", repr=False)
    """Sent as a bearer token when not empty."""

    @property
    def name(self) -> str:
        """For logs: no path and no signature."""
        return f"{self.kind} {urlsplit(self.url).netloc}"


class RangeConnection:
    """One kept connection to a source. Belongs to one thread."""

    def __init__(self, source: RangeSource, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.source = source
        parts = urlsplit(source.url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or len(source.url) > _URL_CHARACTERS_MAX
        ):
            raise SourceFailed(
                f"{source.name} is no http(s) address of at most {_URL_CHARACTERS_MAX} characters"
            )
        self._target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        self._http = _client(parts.scheme, parts.hostname, parts.port, timeout_s)
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))

    def read(self, offset: int, length: int, *, total: int, take: Callable[[int, memoryview], None]) -> None:
        """Hand the bytes offset..offset+length of `total` to `take` (offset, bytes), part by part, each part once.

        Raises: SourceFailed, after which the connection starts anew; and whatever `take` raises.
        """
        try:
            response = self._answer(offset, length)
            _check(response, self.source, offset=offset, length=length, total=total)
            body = self._body(response, length)
            end = offset + length
            while offset < end:
                count = self._receive(body, self._buffer[: min(_CHUNK_BYTES, end - offset)])
                if count == 0:
                    raise SourceFailed(f"{self.source.name} ended {end - offset} bytes too early")
                take(offset, self._buffer[:count])
                offset += count
            if body is response:
                # Reads the end of the body, without which the connection is of no more use.
                self._receive(response, self._buffer[:1])
            response.close()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; the next read begins another."""
        self._http.close()

    def _answer(self, offset: int, length: int) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        if self.source.token:
            headers["Authorization"] = f"Bearer {self.source.token}"
        try:
            if self._http.sock is None:
                self._http.connect()
        except OSError as error:
            raise SourceAway(f"{self.source.name}: {type(error).__name__}: {error}") from error
        try:
            self._http.request("GET", self._target, headers=headers)
            return self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _body(
        self, response: http.client.HTTPResponse, length: int
    ) -> "http.client.HTTPResponse | _PlainBody":
        connection = self._http.sock
        if type(connection) is not socket.socket or response.chunked or response.length != length:
            return response
        try:
            return _PlainBody(response, connection)
        except OSError as error:
            raise self._failure(error) from error

    def _receive(self, body: "http.client.HTTPResponse | _PlainBody", into: memoryview) -> int:
        try:
            return body.readinto(into)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> SourceFailed:
        return SourceFailed(f"{self.source.name}: {type(error).__name__}: {error}")


class _PlainBody:
    """A body of known length that is not encrypted, whole buffers at a time.

    The standard library's way wakes this thread for every 64 KiB, polls, and is a third slower.
    """

    def __init__(self, response: http.client.HTTPResponse, connection: socket.socket) -> None:
        """Raises: OSError."""
        self._response = response
        self._connection = connection
        self._beside_head = len(response.fp.peek(1))
        """Bytes that came with the head and lie in the response's buffer."""
        timeout_s = connection.gettimeout()
        assert timeout_s is not None, "or a source that is silent would be waited for without end"
        self._timeout_s = timeout_s
        # For MSG_WAITALL the socket must block, so the kernel has to watch the clock: a `struct timeval`.
        limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def readinto(self, into: memoryview) -> int:
        """Fill `into` as far as it goes before the end or the timeout; bytes received. Raises: OSError."""
        if self._beside_head:
            count = self._response.readinto(into[: self._beside_head])
            self._beside_head -= count
            return count
        self._connection.settimeout(None)
        try:
            return self._connection.recv_into(into, len(into), socket.MSG_WAITALL)
        except BlockingIOError:
            raise TimeoutError(f"no byte for {self._timeout_s:g} s") from None
        finally:
            self._connection.settimeout(self._timeout_s)


def _client(scheme: str, host: str, port: int | None, timeout_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(
            host, port, timeout=timeout_s, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _check(
    response: http.client.HTTPResponse, source: RangeSource, *, offset: int, length: int, total: int
) -> None:
    """Only the asked range of the right whole will do; redirects are not followed. Raises: SourceFailed."""
    status = response.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise SourceDenied(f"{source.name} answered {status}: the permission is not good, or has expired")
    if response.getheader("Content-Encoding"):
        raise SourceFailed(
            f"{source.name} sent {response.getheader('Content-Encoding')!r}, not the plain bytes"
        )
    # A server may answer with 200 when the range is the whole (RFC 9110, 14.2).
    if status == HTTPStatus.OK and (offset, length) == (0, total) and response.length == total:
        return
    if status != HTTPStatus.PARTIAL_CONTENT:
        raise SourceFailed(f"{source.name} answered {status} to a range request")
    expected = f"bytes {offset}-{offset + length - 1}/{total}"
    found = response.getheader("Content-Range")
    if found != expected:
        raise SourceFailed(f"{source.name} sent {found!r}, not {expected!r}")
