"""Seals: a chain of keyed hashes over all transfers, so that an edit by the owner of the database shows.

    hash(n) = HMAC-SHA256(key, format || hash(n - 1) || transfer(n)),   hash(0) = 32 zero bytes

The key lives with the application; who owns the database and not the key can change a row but not seal it again. Sealing
is not on the path of a transfer: rows are sealed a few seconds later, in the order of (transaction, id), once no running
transaction can still write before them. `transfer(n)` is every column, and kind, owner and asset of both accounts, each
as a netstring, so that no two rows have one encoding.

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
from raymart_billing.ledger.head import Head, read_head_file, write_head_file
from raymart_billing.ledger.refusals import LedgerBroken

log = structlog.get_logger()

FORMAT = b"raymart-transfer-seal/1\n"
SEALS_PER_BATCH = 5_000
KEY_BYTES_MIN = 32

# Everything as text made by the database, so that what is sealed and what is checked are the same bytes. Times are whole
# microseconds: independent of the session's zone, and "Infinity" has a text too.
SEALED_COLUMNS = """
    t.id::text, t.key, t.debit_account_id::text, t.credit_account_id::text, t.amount::text, t.code, t.state,
    t.pending_id::text, (extract(epoch from t.expires_at) * 1000000)::text, t.actor_id::text,
    (extract(epoch from t.created_at) * 1000000)::text, t.xact_id::text, t.reverses_id::text, t.reason,
    d.kind, d.owner_id::text, d.asset, c.kind, c.owner_id::text, c.asset
"""
SEALED_ACCOUNTS = """
    left join ledger_account d on d.id = t.debit_account_id
    left join ledger_account c on c.id = t.credit_account_id
"""
_HEAD = b"""
    select s.position, s.hash, s.transfer_id, t.xact_id
      from transfer_seal s left join transfer t on t.id = s.transfer_id
     order by s.position desc limit 1
"""
_AT = b"select hash from transfer_seal where position = %s"
_SETTLED = f"""
    select {SEALED_COLUMNS}
      from (
        select * from transfer
         where (xact_id, id) > (%s, %s) and xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         order by xact_id, id
         limit {SEALS_PER_BATCH}
      ) t
      {SEALED_ACCOUNTS}
     order by t.xact_id, t.id
""".encode()  # noqa: S608 - constants of this module
_SEAL = b"select ledger_seal(%s, %s::bigint[], %s::bytea[])"

Columns = Sequence[str | None]
"""One row of `SEALED_COLUMNS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one run of the sealer did."""

    transfers: int
    head: Head


def link(key: bytes, previous: bytes, columns: Columns) -> bytes:
    """The hash of a transfer after the hash `previous`."""
    return hmac.digest(key, FORMAT + previous + b"".join(netstrings(columns)), "sha256")


async def seal(
    connection: Connection, *, key: bytes, head_file: Path | None, limit_s: float = 30.0
) -> Sealed:
    """Seal what is settled, for at most about `limit_s` seconds; several sealers at once do no harm.

    Compares the chain with the head file first and never overwrites a head that the chain no longer has.
    Raises: LedgerBroken when the chain is not the one that was sealed.
    """
    assert len(key) >= KEY_BYTES_MIN, f"seal key of {len(key)} bytes"
    head, after = await _head(connection)
    await _compare(connection, head, head_file)
    begun, sealed = time.monotonic(), 0
    while time.monotonic() - begun < limit_s:
        rows = await (await connection.execute(_SETTLED, after)).fetchall()
        if not rows:
            break
        hashes = await asyncio.to_thread(_linked, key, head.hash, rows)
        ids = [int(row[0]) for row in rows]
        [position] = await (await connection.execute(_SEAL, (head.position, ids, hashes))).fetchone() or [
            None
        ]
        if position is None:
            break  # Another sealer was faster and goes on.
        head, after = Head(position=position, hash=hashes[-1]), (int(rows[-1][11]), ids[-1])
        sealed += len(rows)
    if sealed:
        if head_file is not None:
            await asyncio.to_thread(write_head_file, head_file, head)
        log.info("ledger.sealed", transfers=sealed, position=head.position, hash=head.hash.hex())
    return Sealed(transfers=sealed, head=head)


async def _head(connection: Connection) -> tuple[Head, tuple[int, int]]:
    """The chain's head, and (transaction, id) of its transfer."""
    row = await (await connection.execute(_HEAD)).fetchone()
    if row is None:
        return Head(position=0, hash=bytes(32)), (0, 0)
    position, digest, transfer_id, xact_id = row
    if xact_id is None:
        raise LedgerBroken(f"transfer {transfer_id}, sealed at position {position}, is gone")
    return Head(position=position, hash=bytes(digest)), (xact_id, transfer_id)


async def _compare(connection: Connection, head: Head, head_file: Path | None) -> None:
    """Raise LedgerBroken unless the head in the file is a link of this chain."""
    known = await asyncio.to_thread(read_head_file, head_file) if head_file is not None else None
    if known is None or known.position == 0:
        return
    if known.position > head.position:
        raise LedgerBroken(
            f"the chain ends at position {head.position}, the head file knows position {known.position}: "
            f"seals {head.position + 1} to {known.position} are gone"
        )
    row = await (await connection.execute(_AT, (known.position,))).fetchone()
    if row is None or bytes(row[0]) != known.hash:
        raise LedgerBroken(f"the seal at position {known.position} is not the one that the head file knows")


def _linked(key: bytes, previous: bytes, rows: Sequence[Columns]) -> list[bytes]:
    hashes = []
    for row in rows:
        previous = link(key, previous, row)
        hashes.append(previous)
    return hashes


def netstrings(columns: Columns) -> Iterator[bytes]:
    """Each column so that no two rows have one encoding; a null differs from an empty text."""
    for column in columns:
        if column is None:
            yield b"~"
        else:
            encoded = column.encode()
            yield b"%d:%b," % (len(encoded), encoded)
