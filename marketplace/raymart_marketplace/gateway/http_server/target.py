"""What a request line asks for."""

from urllib.parse import unquote

import httptools


def read_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it was sent, and query of a request target. Raises: httptools.HttpParserInvalidURLError.

    Source: RFC 9112, section 3.2.
    """
    if url[:1] == b"/" and b"#" not in url:
        raw_path, _, query = url.partition(b"?")
    else:  # An absolute URL, as one tells a proxy, or what is none.
        parsed = httptools.parse_url(url)
        raw_path, query = parsed.path or b"/", parsed.query or b""
    path = raw_path.decode("ascii")
    return (unquote(path) if "%" in path else path), raw_path, query
