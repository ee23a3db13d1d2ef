"""PostgreSQL's binary COPY format for the few types that usage has: less CPU than a general adapter, on both sides.

A column is encoded at once and not a field at a time: calling a function costs Python more than encoding a field does.

Source: PostgreSQL manual, COPY, "Binary Format": a signature, then for each row the number of its fields and for each
field its length and its bytes (-1 for null), then a trailer. Numbers are big-endian, times microseconds since 2000.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any
from uuid import UUID

Row = tuple[Any, ...]
Encoder = Callable[[Sequence[Any]], list[bytes]]
"""The values of a column, None for null, as the bytes of its fields, each with its length before it."""

ROWS_AT_ONCE = 200

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LENGTH = struct.Struct(">i").pack
_INTEGER = struct.Struct(">ii").pack
_BIGINT = struct.Struct(">iq").pack
_UUID_LENGTH = _LENGTH(16)
_BOOLEANS = {True: _LENGTH(1) + b"\1", False: _LENGTH(1) + b"\0", None: _NULL}


def uuid_fields(values: Sequence[UUID | None]) -> list[bytes]:
    """A column of uuid."""
    # As UUID.bytes does, without the cost of a property.
    return [_NULL if value is None else _UUID_LENGTH + value.int.to_bytes(16, "big") for value in values]


def text_fields(values: Sequence[str | None]) -> list[bytes]:
    """A column of text or varchar. Few texts are many times in a batch: models, states."""
    fields = {value: _NULL if value is None else _text_field(value) for value in set(values)}
    return [fields[value] for value in values]


def _text_field(value: str) -> bytes:
    content = value.encode()
    return _LENGTH(len(content)) + content


def integer_fields(values: Sequence[int | None]) -> list[bytes]:
    """A column of integers of 4 bytes. Raises: struct.error for one that needs more."""
    return [_NULL if value is None else _INTEGER(4, value) for value in values]


def bigint_fields(values: Sequence[int | None]) -> list[bytes]:
    """A column of integers of 8 bytes. Raises: struct.error for one that needs more."""
    return [_NULL if value is None else _BIGINT(8, value) for value in values]


def boolean_fields(values: Sequence[bool | None]) -> list[bytes]:
    """A column of boolean."""
    return [_BOOLEANS[value] for value in values]


def time_fields(values: Sequence[datetime | None]) -> list[bytes]:
    """A column of timestamp with time zone."""
    return [_NULL if value is None else _time_field(value) for value in values]


def _time_field(value: datetime) -> bytes:
    since = value - _EPOCH
    return _BIGINT(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


class CopiedTable:
    """A table, the columns that are copied, and how: what is left out the database fills in.

    COPY writes into no table under row-level security, whatever its policies (PostgreSQL manual, "CREATE POLICY"). A
    role that is not exempt from it copies aside, into a table of its transaction, and inserts from there.
    """

    def __init__(self, name: str, **columns: Encoder) -> None:
        self.name = name
        self.columns = tuple(columns)
        names = ", ".join(columns)
        self.statement = f"copy {name} ({names}) from stdin (format binary)".encode()
        source = f"select {names} from {name} with no data"  # noqa: S608 - our own names
        self.prepare = f"create temporary table copied_{name} on commit drop as {source}".encode()
        self.statement_aside = f"copy pg_temp.copied_{name} ({names}) from stdin (format binary)".encode()
        self.finish = (
            f"insert into {name} ({names}) select {names} from pg_temp.copied_{name}".encode(),  # noqa: S608
            f"drop table pg_temp.copied_{name}".encode(),
        )
        self._encoders = tuple(columns.values())
        self._head = struct.pack(">h", len(columns))

    def encoded(self, rows: Sequence[Row]) -> Iterator[bytes]:
        """All of `rows` (at least one), each with its values in the order of the columns, a few hundred rows at a time.

        Who writes each part before asking for the next has PostgreSQL work on the one while the other is encoded.
        """
        head, end = _SIGNATURE, len(rows)
        for start in range(0, end, ROWS_AT_ONCE):
            columns = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
            fields = [encode(values) for encode, values in zip(self._encoders, columns, strict=True)]
            body = chain.from_iterable(zip(repeat(self._head), *fields, strict=False))
            yield b"".join(chain((head,), body, (_TRAILER,) if start + ROWS_AT_ONCE >= end else ()))
            head = b""
