"""One request and the answer to it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from raymart_core.errors import RaymartError
from raymart_core.units import Fault
from raymart_core.wire.replica import ErrorBody, encode

JSON = "application/json"


class ReaderTooSlow(RaymartError):
    """The peer took nothing for the write timeout; the connection is of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """The answer's way to the peer. Either `send` once, or `start`, `write` any number of times, `finish`."""

    def __init__(self, transport: asyncio.Transport, *, write_timeout_s: float) -> None:
        self._transport = transport
        self._write_timeout_s = write_timeout_s
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._content_type = ""
        """Of a head that is not sent yet."""
        self.started = False
        """Whether a status was chosen, so that a failure can no longer change it."""
        self.finished = False
        self.close_after = False
        """Whether the connection ends with this answer."""

    @property
    def keeps_up(self) -> bool:
        """Whether the transport's buffer has room."""
        return self._may_write.is_set()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._may_write.clear()

    def resume(self) -> None:
        """The transport's buffer has room again."""
        self._may_write.set()

    def send(self, status: HTTPStatus, body: msgspec.Struct | None = None) -> None:
        """Answer with one JSON body, or none."""
        assert not self.started
        self.started = self.finished = True
        payload = b"" if body is None else encode(body)
        head = self._head_lines(status, f"Content-Type: {JSON}\r\nContent-Length: {len(payload)}")
        self._transport.write(head + payload)

    def refuse(self, status: HTTPStatus, message: str, *, fault: Fault, param: str | None = None) -> None:
        """Answer with an `ErrorBody`."""
        self.send(status, ErrorBody(message=message, fault=fault, param=param))

    def start(self, content_type: str) -> None:
        """Choose status 200 and a body of unknown length; the head leaves with the first `write`."""
        assert not self.started
        self.started = True
        self._content_type = content_type

    async def write(self, data: bytes) -> None:
        """Send `data` as one chunk in one write, then wait for room. Raises: ReaderTooSlow."""
        await self._write(self._chunk(data))

    def push(self, data: bytes) -> None:
        """Send `data`, if it is any, as one chunk; only to a peer that `keeps_up`."""
        if data:
            self._transport.write(self._chunk(data))

    async def finish(self, data: bytes) -> None:
        """Send what is left and the body's end in one write. Raises: ReaderTooSlow."""
        self.finished = True
        if self._content_type:  # It is all there is, so its length is known.
            fields = f"Content-Type: {self._content_type}\r\nContent-Length: {len(data)}"
            await self._write(self._head_lines(HTTPStatus.OK, fields) + data)
        else:
            await self._write(self._chunk(data) + b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> bytes:
        head = b""
        if self._content_type:
            fields = f"Content-Type: {self._content_type}\r\nTransfer-Encoding: chunked"
            head, self._content_type = self._head_lines(HTTPStatus.OK, fields), ""
        return b"%b%x\r\n%b\r\n" % (head, len(data), data)

    async def _write(self, data: bytes) -> None:
        self._transport.write(data)
        if self._may_write.is_set():
            return
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._may_write.wait()
        except TimeoutError as error:
            raise ReaderTooSlow(f"the peer read nothing for {self._write_timeout_s} s") from error

    def _head_lines(self, status: HTTPStatus, fields: str) -> bytes:
        connection = "\r\nConnection: close" if self.close_after else ""
        return f"HTTP/1.1 {status.value} {status.phrase}\r\n{fields}{connection}\r\n\r\n".encode()
