"""multipart/form-data of a body that is in memory.

Source: RFC 7578. What browsers and the official clients send: parts between boundaries, each with a name.
"""

import re
from dataclasses import dataclass

from raymart_core.errors import InvalidRequest

PARTS_MAX = 64
_BOUNDARY = re.compile(rb"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)
_NAME = re.compile(rb"""[;\s]name=(?:"([^"]*)"|([^\s;"]+))""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form, or one file."""

    name: str
    content: bytes

    def text(self) -> str:
        """The field as text. Raises: InvalidRequest."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{self.name} is no text in UTF-8", param=self.name) from None


def read_form(body: bytes, content_type: bytes | None) -> list[Part]:
    """The parts in their order. Raises: InvalidRequest."""
    kind = content_type or b""
    boundary = _BOUNDARY.search(kind)
    if not kind.lower().startswith(b"multipart/form-data") or boundary is None:
        raise InvalidRequest("the body must be multipart/form-data with a boundary")
    limit = b"--" + (boundary[1] or boundary[2])
    # The first limit has no line before it; with one put there, all are alike.
    pieces = (b"\r\n" + body).split(b"\r\n" + limit)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise InvalidRequest("the form does not end with its boundary; send it whole")
    if len(pieces) - 2 > PARTS_MAX:
        raise InvalidRequest(f"the form has {len(pieces) - 2} parts; the limit is {PARTS_MAX}")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, found, content = piece.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-disposition:") and (name := _NAME.search(line)) is not None:
            if not found:
                break
            return Part((name[1] or name[2] or b"").decode("utf-8", "replace")[:80], content)
    raise InvalidRequest("a part of the form has no name")
