"""Looking after what was spilled: what lies where, and another try for records that were set aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_billing.records import RecordOrigin, restore
from raymart_billing.spill.journal import bytes_in, segments
from raymart_billing.spill.stream import REDIS_AWAY, SpillStream

_ASIDE = b"""
    select encode(digest, 'hex'), request_id, origin, reason, length(record), created_at
      from usage_set_aside where resolved_at is null order by created_at, digest
"""
_RECORDS = b"""
    select digest, record, origin from usage_set_aside
     where resolved_at is null and (%(digest)s::text is null or encode(digest, 'hex') like %(digest)s || '%%')
     order by created_at, digest
"""
_RESOLVE = b"""
    update usage_set_aside set resolved_at = clock_timestamp()
     where digest = %(digest)s and exists (select from request where id = %(request_id)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much is spilled and not drained yet."""

    stream_records: int | None
    """None when Redis is away."""
    segments: int
    """Files on this machine, those of living processes included."""
    segment_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A record that could not become rows."""

    digest: str
    """SHA-256 of the record, hexadecimal: its name for `retry_set_aside`."""
    request_id: UUID | None
    origin: RecordOrigin
    reason: str
    record_bytes: int
    created_at: datetime


async def waiting(*, directory: Path | None, stream: SpillStream) -> Waiting:
    """What has not been drained yet."""
    try:
        records: int | None = await stream.length()
    except REDIS_AWAY:
        records = None
    found = [] if directory is None else segments(directory)
    size = 0 if directory is None else bytes_in(directory)
    return Waiting(stream_records=records, segments=len(found), segment_bytes=size)


async def set_aside_records(connection: Connection) -> Sequence[SetAside]:
    """Those that nobody has resolved, oldest first."""
    rows = await (await connection.execute(_ASIDE)).fetchall()
    return [
        SetAside(
            digest=digest,
            request_id=request_id,
            origin=RecordOrigin(origin),
            reason=reason,
            record_bytes=size,
            created_at=created_at,
        )
        for digest, request_id, origin, reason, size, created_at in rows
    ]


async def retry_set_aside(connection: Connection, *, digest: str | None = None) -> tuple[int, int]:
    """Try again to record those whose digest begins with `digest`, or all; returns (recorded, still set aside).

    For after a release that reads what an older one could not. What still cannot be recorded stays as it is.
    """
    rows = await (await connection.execute(_RECORDS, {"digest": digest})).fetchall()
    recorded = 0
    for name, record, origin in rows:
        restored = await restore(connection, [bytes(record)], origin=RecordOrigin(origin))
        for request in restored.requests:
            await connection.execute(_RESOLVE, {"digest": name, "request_id": request.id})
            recorded += 1
    return recorded, len(rows) - recorded
