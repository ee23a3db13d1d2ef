"""A blocking client of a replica's port, for tests that look at the wire."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from typing import Self

from raymart_core.wire.replica import (
    ErrorBody,
    FinishEvent,
    GenerateRequest,
    ReplicaEvent,
    StepEvent,
    decode_error_body,
    decode_event,
    encode,
)


class ReplicaClient:
    """One connection; several requests may follow each other on it."""

    def __init__(
        self, address: str, secret: str, *, timeout_s: float = 30.0, receive_bytes: int | None = None
    ) -> None:
        host, _, port = address.rpartition(":")
        self.secret = secret
        self.connection = HTTPConnection(host, int(port), timeout=timeout_s)
        if receive_bytes is not None:
            self.connection.sock = _small_socket(host, int(port), receive_bytes, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, *, secret: str | None = None, **headers: str
    ) -> HTTPResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields["Authorization"] = f"Bearer {self.secret if secret is None else secret}"
        self.connection.request(method, path, body, fields)
        return self.connection.getresponse()

    def generate(self, request: GenerateRequest, **headers: str) -> "Stream":
        return Stream(self.request("POST", "/v1/generate", encode(request), **headers))


class Stream:
    """The answer to a generate request."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response
        self.status = response.status

    def error(self) -> ErrorBody:
        return decode_error_body(self.response.read())

    def events(self) -> Iterator[ReplicaEvent]:
        while line := self.response.readline():
            yield decode_event(line)

    def text(self) -> str:
        """Read to the end; the text, with the checks that hold for every good stream."""
        events = list(self.events())
        steps = [event for event in events if isinstance(event, StepEvent)]
        assert isinstance(events[-1], FinishEvent), events[-1]
        assert [step.i for step in steps] == list(range(len(steps)))
        assert events[-1].usage.completion == (steps[-1].n if steps else 0)
        return "".join(step.d for step in steps)


def _small_socket(host: str, port: int, receive_bytes: int, timeout_s: float) -> socket.socket:
    """A socket whose receive buffer was small before it connected, when TCP agrees on its window."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    small.settimeout(timeout_s)
    try:
        small.connect((host, port))
    except OSError:
        small.close()
        raise
    return small
