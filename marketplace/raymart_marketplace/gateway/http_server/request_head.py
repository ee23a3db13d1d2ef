"""The head of a request: what no parser checks, and its bytes once more."""

from collections.abc import Sequence
from itertools import chain

from raymart_marketplace.gateway.http_server.refusal import BAD_REQUEST, HEAD_TOO_LARGE, RequestRefused

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


def check_head(url: bytes, headers: Headers, version: str, *, bytes_max: int) -> bool:
    """Whether the client waits for a `100 Continue`. Raises: RequestRefused."""
    size, hosts, expects_continue = len(url), 0, False
    size += sum(map(len, chain.from_iterable(headers)))
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
    if size > bytes_max:
        raise RequestRefused(HEAD_TOO_LARGE)
    # RFC 9112, section 3.2: exactly one; two could mean two things to two parsers.
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise RequestRefused(BAD_REQUEST)
    return expects_continue and version == "1.1"


def head_bytes(method: bytes, url: bytes, headers: Headers, *, without: bytes = b"") -> bytes:
    """A head that was read, for another parser; `without` the headers of a name."""
    lines = [b"%b %b HTTP/1.1" % (method, url)]
    lines += [b"%b: %b" % header for header in headers if header[0] != without]
    return b"\r\n".join([*lines, b"", b""])
