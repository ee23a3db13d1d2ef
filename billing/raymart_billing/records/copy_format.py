"""PostgreSQL's binary COPY format for the few types that usage has: less CPU than a general adapter, on both sides.

Source: PostgreSQL manual, COPY, "Binary Format": a signature, then for each row the number of its fields and for each
field its length and its bytes (-1 for null), then a trailer. Numbers are big-endian, times microseconds since 2000.
"""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

Row = tuple[Any, ...]
Encoder = Callable[[Any], bytes]
"""A value that is not None as the bytes of its field, its length before it."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTH = struct.Struct(">i").pack
_INTEGER = struct.Struct(">ii").pack
_BIGINT = struct.Struct(">iq").pack
_UUID_LENGTH = _LENGTH(16)
_TRUE, _FALSE = _LENGTH(1) + b"\1", _LENGTH(1) + b"\0"


def uuid_field(value: UUID) -> bytes:
    """A uuid."""
    return _UUID_LENGTH + value.bytes


def text_field(value: str) -> bytes:
    """A text or varchar."""
    content = value.encode()
    return _LENGTH(len(content)) + content


def integer_field(value: int) -> bytes:
    """An integer of 4 bytes. Raises: struct.error for one that needs more."""
    return _INTEGER(4, value)


def bigint_field(value: int) -> bytes:
    """An integer of 8 bytes. Raises: struct.error for one that needs more."""
    return _BIGINT(8, value)


def boolean_field(value: bool) -> bytes:  # noqa: FBT001 - the value of a column
    """A boolean."""
    return _TRUE if value else _FALSE


def time_field(value: datetime) -> bytes:
    """A timestamp with time zone."""
    return _BIGINT(8, (value - _EPOCH) // _MICROSECOND)


class CopiedTable:
    """A table, the columns that are copied, and how: what is left out the database fills in."""

    def __init__(self, name: str, **columns: Encoder) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.statement = f"copy {name} ({', '.join(columns)}) from stdin (format binary)".encode()
        self._encoders = tuple(columns.values())
        self._head = struct.pack(">h", len(columns))

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """All of `rows`, each with its values in the order of the columns."""
        parts = [_SIGNATURE]
        for row in rows:
            parts.append(self._head)
            parts += [
                _NULL if value is None else encode(value)
                for encode, value in zip(self._encoders, row, strict=True)
            ]
        parts.append(_TRAILER)
        return b"".join(parts)
