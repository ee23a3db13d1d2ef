"""Seals over the audit log, as those over transfers (`raymart_billing.ledger.seal`, where the reasons are).

    hash(n) = HMAC-SHA256(key, format || hash(n - 1) || entry(n)),   hash(0) = 32 zero bytes

One key serves both chains: the format in front keeps their hashes apart. Entries are sealed in the order of (transaction,
id), once no running transaction can still write before them; nothing that people do waits for it. The address that an act
came from is sealed as its salted digest, so that the address itself can be forgotten.
"""

import asyncio
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from raymart_billing.connections import Connection
from raymart_billing.ledger.head import Head, read_head_file, write_head_file
from raymart_billing.ledger.seal import KEY_BYTES_MIN, Columns, netstrings
from raymart_core.errors import RaymartError

log = structlog.get_logger()

FORMAT = b"raymart-audit-seal/1\n"
SEALS_PER_BATCH = 5_000

# As text made by the database, times as whole microseconds: what is sealed and what is checked are the same bytes.
SEALED_COLUMNS = """
    e.id::text, e.xact_id::text, (extract(epoch from e.created_at) * 1000000)::text, e.actor_kind, e.actor_id::text,
    e.actor_name, e.acting_organization_id::text, e.organization_id::text, e.session_id::text, e.request_id::text,
    e.action, e.subject_kind, e.subject_id::text, e.mentions::text, e.outcome, e.detail::text,
    encode(e.origin_digest, 'hex')
"""
_HEAD = b"""
    select s.position, s.hash, s.entry_id, e.xact_id
      from audit_seal s left join audit_entry e on e.id = s.entry_id
     order by s.position desc limit 1
"""
_AT = b"select hash from audit_seal where position = %s"
_SETTLED = f"""
    select {SEALED_COLUMNS}
      from audit_entry e
     where (e.xact_id, e.id) > (%s, %s) and e.xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
     order by e.xact_id, e.id
     limit {SEALS_PER_BATCH}
""".encode()  # noqa: S608 - constants of this module
_SEAL = b"select audit_seal_append(%s, %s::bigint[], %s::bytea[])"


class AuditBroken(RaymartError):
    """The chain is not the one that was sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEntries:
    """What one run of the sealer did."""

    entries: int
    head: Head


def link(key: bytes, previous: bytes, columns: Columns) -> bytes:
    """The hash of an entry after the hash `previous`."""
    return hmac.digest(key, FORMAT + previous + b"".join(netstrings(columns)), "sha256")


async def seal(
    connection: Connection, *, key: bytes, head_file: Path | None, limit_s: float = 30.0
) -> SealedEntries:
    """Seal what is settled, for at most about `limit_s` seconds; several sealers at once do no harm.

    Compares the chain with the head file first and never overwrites a head that the chain no longer has.
    Raises: AuditBroken.
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
        answer = await (await connection.execute(_SEAL, (head.position, ids, hashes))).fetchone()
        if answer is None or answer[0] is None:
            break  # Another sealer was faster and goes on.
        head, after = Head(position=answer[0], hash=hashes[-1]), (int(rows[-1][1]), ids[-1])
        sealed += len(rows)
    if sealed:
        if head_file is not None:
            await asyncio.to_thread(write_head_file, head_file, head)
        log.info("audit.sealed", entries=sealed, position=head.position, hash=head.hash.hex())
    return SealedEntries(entries=sealed, head=head)


async def _head(connection: Connection) -> tuple[Head, tuple[int, int]]:
    """The chain's head, and (transaction, id) of its entry."""
    row = await (await connection.execute(_HEAD)).fetchone()
    if row is None:
        return Head(position=0, hash=bytes(32)), (0, 0)
    position, digest, entry_id, xact_id = row
    if xact_id is None:
        raise AuditBroken(f"entry {entry_id}, sealed at position {position}, is gone")
    return Head(position=position, hash=bytes(digest)), (xact_id, entry_id)


async def _compare(connection: Connection, head: Head, head_file: Path | None) -> None:
    """Raise AuditBroken unless the head in the file is a link of this chain."""
    known = await asyncio.to_thread(read_head_file, head_file) if head_file is not None else None
    if known is None or known.position == 0:
        return
    if known.position > head.position:
        raise AuditBroken(
            f"the chain ends at position {head.position}, the head file knows position {known.position}: "
            f"seals {head.position + 1} to {known.position} are gone"
        )
    row = await (await connection.execute(_AT, (known.position,))).fetchone()
    if row is None or bytes(row[0]) != known.hash:
        raise AuditBroken(f"the seal at position {known.position} is not the one that the head file knows")


def _linked(key: bytes, previous: bytes, rows: Sequence[Columns]) -> list[bytes]:
    hashes = []
    for row in rows:
        previous = link(key, previous, row)
        hashes.append(previous)
    return hashes
