"""A chain of seals over the rows of a log.

    hash(n) = HMAC-SHA256(key, format || hash(n - 1) || row(n)),   hash(0) = 32 zero bytes

The key lives with the application; who owns the database and not the key can change a row but not seal it again. Sealing
is not on the path of a row: rows are sealed a few seconds later, in the order of (transaction, id), once no running
transaction can still write before them. `row(n)` is every column that counts, each as a netstring, so that no two rows
have one encoding. One key serves all chains: the format in front keeps their hashes apart.

A chain cannot tell that its end was cut off. So the newest position and hash, the head, also go to the log and to a
file outside the database (`head.py`).

Source: RFC 2104 (HMAC); Bernstein 1997 (netstrings); Schneier and Kelsey 1999 (secure audit logs).
"""

import asyncio
import hmac
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from raymart_billing.connections import Connection
from raymart_billing.seals.head import Head, read_head_file, write_head_file
from raymart_core.errors import RaymartError

log = structlog.get_logger()

SEALS_PER_BATCH = 5_000
KEY_BYTES_MIN = 32

Columns = Sequence[str | None]
"""What is sealed of one row: its id first, every value as text made by the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLog:
    """A log and its seals, as statements. None of them is made from what users say."""

    noun: str
    """What a row is called, in findings."""
    event: str
    """What the log line of a sealing is called."""
    format: bytes
    """In front of what is hashed."""
    head: bytes
    """The newest seal: position, hash, its row's id, and that row's transaction (null when the row is gone)."""
    at: bytes
    """The hash at a position."""
    settled: bytes
    """`Columns` of at most `SEALS_PER_BATCH` rows after (transaction, id), in that order, none of which can change."""
    append: bytes
    """Append (position before, ids, hashes); gives the new position, or null where another sealer was faster."""
    xact_column: int
    """Where a row's transaction is in `Columns`."""
    broken: type[RaymartError]
    """Raised when the chain is not the one that was sealed."""

    def link(self, key: bytes, previous: bytes, columns: Columns) -> bytes:
        """The hash of a row after the hash `previous`."""
        return hmac.digest(key, self.format + previous + b"".join(_netstrings(columns)), "sha256")

    def order(self, columns: Columns) -> tuple[int, int]:
        """Where a row stands in the log: by transaction, then by id."""
        return int(columns[self.xact_column] or 0), int(columns[0] or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one run of a sealer did."""

    rows: int
    head: Head


async def seal(
    connection: Connection,
    sealed_log: SealedLog,
    *,
    key: bytes,
    head_file: Path | None,
    limit_s: float = 30.0,
) -> Sealed:
    """Seal what is settled, for at most about `limit_s` seconds; several sealers at once do no harm.

    Compares the chain with the head file first and never overwrites a head that the chain no longer has.
    Raises: `sealed_log.broken` when the chain is not the one that was sealed.
    """
    assert len(key) >= KEY_BYTES_MIN, f"seal key of {len(key)} bytes"
    head, after = await _head(connection, sealed_log)
    await _compare(connection, sealed_log, head, head_file)
    begun, sealed = time.monotonic(), 0
    while time.monotonic() - begun < limit_s:
        rows = await (await connection.execute(sealed_log.settled, after)).fetchall()
        if not rows:
            break
        hashes = await asyncio.to_thread(_linked, sealed_log, key, head.hash, rows)
        ids = [int(row[0]) for row in rows]
        answer = await (await connection.execute(sealed_log.append, (head.position, ids, hashes))).fetchone()
        if answer is None or answer[0] is None:
            break  # Another sealer was faster and goes on.
        head, after = Head(position=answer[0], hash=hashes[-1]), sealed_log.order(rows[-1])
        sealed += len(rows)
    if sealed:
        if head_file is not None:
            await asyncio.to_thread(write_head_file, head_file, head)
        log.info(sealed_log.event, rows=sealed, position=head.position, hash=head.hash.hex())
    return Sealed(rows=sealed, head=head)


async def _head(connection: Connection, sealed_log: SealedLog) -> tuple[Head, tuple[int, int]]:
    """The chain's head, and (transaction, id) of its row."""
    row = await (await connection.execute(sealed_log.head)).fetchone()
    if row is None:
        return Head(position=0, hash=bytes(32)), (0, 0)
    position, digest, row_id, xact_id = row
    if xact_id is None:
        raise sealed_log.broken(f"{sealed_log.noun} {row_id}, sealed at position {position}, is gone")
    return Head(position=position, hash=bytes(digest)), (xact_id, row_id)


async def _compare(connection: Connection, sealed_log: SealedLog, head: Head, head_file: Path | None) -> None:
    """Raise unless the head in the file is a link of this chain."""
    known = await asyncio.to_thread(read_head_file, head_file) if head_file is not None else None
    if known is None or known.position == 0:
        return
    if known.position > head.position:
        raise sealed_log.broken(
            f"the chain ends at position {head.position}, the head file knows position {known.position}: "
            f"seals {head.position + 1} to {known.position} are gone"
        )
    row = await (await connection.execute(sealed_log.at, (known.position,))).fetchone()
    if row is None or bytes(row[0]) != known.hash:
        raise sealed_log.broken(
            f"the seal at position {known.position} is not the one that the head file knows"
        )


def _linked(sealed_log: SealedLog, key: bytes, previous: bytes, rows: Sequence[Columns]) -> list[bytes]:
    hashes = []
    for row in rows:
        previous = sealed_log.link(key, previous, row)
        hashes.append(previous)
    return hashes


def _netstrings(columns: Columns) -> Iterator[bytes]:
    """Each column so that no two rows have one encoding; a null differs from an empty text."""
    for column in columns:
        if column is None:
            yield b"~"
        else:
            encoded = column.encode()
            yield b"%d:%b," % (len(encoded), encoded)
