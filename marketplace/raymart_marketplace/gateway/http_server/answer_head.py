"""The head of an answer: from ASGI's status and headers to bytes, and what they say about the body."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}


class AnswerHead(NamedTuple):
    """Status line and an application's headers, without the empty line: the server's own headers may follow."""

    data: bytes
    content_length: int | None
    asks_to_close: bool
    names_request: bool
    """Whether there is an `x-request-id`."""


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> AnswerHead:
    """The head of an answer. How its body is framed is the server's matter: `Transfer-Encoding` is left out.

    Raises: ValueError for a header that would end its line, or the head.
    """
    given = [*headers]
    named = dict(given)
    # One look at all names, which are in lower case already, instead of one at each; so with the line breaks below.
    if not b"".join(named).islower():
        given = [(name.lower(), value) for name, value in given]
        named = dict(given)
    if b"transfer-encoding" in named:
        given = [header for header in given if header[0] != b"transfer-encoding"]
    length = named.get(b"content-length")
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *[b"%b: %b" % header for header in given]]
    data = b"\r\n".join(lines)
    breaks = len(given)
    if data.count(b"\n") != breaks or data.count(b"\r") != breaks or b"\0" in data:
        raise ValueError("a header with a line break or a NUL in it")
    return AnswerHead(
        data,
        content_length=None if length is None else int(length),
        asks_to_close=b"connection" in named and _asks_to_close(given),
        names_request=b"x-request-id" in named,
    )


def _asks_to_close(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"connection" and b"close" in value.lower() for name, value in headers)
