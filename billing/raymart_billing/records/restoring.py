"""Records as bytes into their rows, each once; what cannot become rows is set aside with its reason."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog

from raymart_billing.connections import OUTAGE, Connection
from raymart_billing.records.codec import UnreadableRecord, decode, request_id_of
from raymart_billing.records.copying import copy_requests
from raymart_billing.records.models import RecordOrigin
from raymart_core.ids import Prefix, show
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

TRIES_MAX = 4
"""Of one batch whose records others were writing at the same moments."""

_SET_ASIDE = b"""
    insert into usage_set_aside (digest, request_id, origin, reason, record)
    values (%(digest)s, %(request_id)s, %(origin)s, %(reason)s, %(record)s)
    on conflict (digest) do nothing
"""


@dataclass(slots=True)
class Restored:
    """What became of a batch."""

    requests: list[FinishedRequest] = field(default_factory=list)
    """In their tables now; some may have been there before."""
    set_aside: int = 0


async def restore(connection: Connection, records: Sequence[bytes], *, origin: RecordOrigin) -> Restored:
    """Bring `records` into their tables, durable when this returns; those that are there already are left as they are.

    Any number of processes may restore the same records at once: the request's primary key decides. A record that is
    unreadable, or that the database refuses, is set aside alone. Deletes the requests' checkpoints.
    Raises: those of `OUTAGE`; then a repeat is safe.
    """
    restored = Restored()
    by_id: dict[UUID, tuple[FinishedRequest, bytes]] = {}
    for record in records:
        try:
            request = decode(record)
        except UnreadableRecord as error:
            await set_aside(connection, record, origin=origin, reason=str(error))
            restored.set_aside += 1
        else:
            # Of two copies in one batch the first counts, as it would in two batches.
            by_id.setdefault(request.id, (request, record))
    await _write(connection, list(by_id.values()), restored, origin=origin)
    return restored


async def set_aside(connection: Connection, record: bytes, *, origin: RecordOrigin, reason: str) -> None:
    """Keep `record` for somebody to look at, once however often it comes; a no-op while it is there."""
    request_id = request_id_of(record)
    named = None if request_id is None else show(Prefix.REQUEST, request_id)
    log.error("usage.set_aside", request_id=named, origin=origin.value, reason=reason, bytes=len(record))
    values = {
        "digest": hashlib.sha256(record).digest(),
        "request_id": request_id,
        "origin": origin.value,
        "reason": reason[:500].replace("\0", "?"),
        "record": record,
    }
    await connection.execute(_SET_ASIDE, values)


async def _write(
    connection: Connection,
    batch: Sequence[tuple[FinishedRequest, bytes]],
    restored: Restored,
    *,
    origin: RecordOrigin,
) -> None:
    """Write `batch` whole; when the database refuses it, by halves down to the culprit."""
    if not batch:
        return
    refusal = await _refusal(connection, [request for request, _ in batch])
    if refusal is None:
        restored.requests += [request for request, _ in batch]
    elif len(batch) == 1:
        await set_aside(connection, batch[0][1], origin=origin, reason=refusal)
        restored.set_aside += 1
    else:
        middle = len(batch) // 2
        await _write(connection, batch[:middle], restored, origin=origin)
        await _write(connection, batch[middle:], restored, origin=origin)


async def _refusal(connection: Connection, requests: Sequence[FinishedRequest]) -> str | None:
    """Write `requests`; returns why the database would not have them, None when it does."""
    reason = ""
    for _ in range(TRIES_MAX):
        try:
            await copy_requests(connection, requests, may_exist=True, forget_checkpoints=True)
        except OUTAGE:
            raise
        except psycopg.errors.UniqueViolation as error:
            reason = str(
                error
            )  # Mostly a race with somebody who restores the same: the next look finds it there.
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one record must not hold up the others
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        else:
            return None
    return reason
