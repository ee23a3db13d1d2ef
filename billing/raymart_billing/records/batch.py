"""Finished requests into their tables by one statement: the way of the hot path.

The gateway's CPU counts here: one round trip, and one pass of a C encoder over the whole batch. PostgreSQL takes the
JSON apart, which costs it some 20 µs a record more than COPY. A batch of hundreds is a backlog, which is to be written
fast: that is copied.
"""

from collections.abc import Sequence

import msgspec
from psycopg.types.json import Json

from raymart_billing.connections import Connection
from raymart_billing.records.codec import storable_request
from raymart_billing.records.copying import copy_requests
from raymart_core.ports import FinishedRequest

COPIED_MIN = 256
"""Requests of a batch from which on it is copied."""

_RECORD = b"select usage_record_batch(%s, %s)"
_ENCODER = msgspec.json.Encoder()
_NUL = b"\\u0000"


async def record_batch(
    connection: Connection, requests: Sequence[FinishedRequest], *, forget_checkpoints: bool
) -> None:
    """Write those of `requests` that are not recorded yet, all or none; durable when this returns.

    `connection` is in autocommit. `forget_checkpoints` deletes the checkpoints of `requests` in the same transaction.
    Locks nothing that another writer of other requests would wait for.
    Raises: psycopg.errors.UniqueViolation when `COPIED_MIN` or more are written while another writes one of the same;
    fewer of them at a time can be written then.
    """
    if len(requests) >= COPIED_MIN:
        await copy_requests(connection, requests, may_exist=True, forget_checkpoints=forget_checkpoints)
        return
    await connection.execute(_RECORD, (Json(requests, dumps=_as_json), forget_checkpoints), prepare=True)


def _as_json(requests: Sequence[FinishedRequest]) -> bytes:
    """`requests` without text that PostgreSQL cannot store; that is rare, and only then each is looked at."""
    try:
        content = _ENCODER.encode(requests)
    except UnicodeEncodeError:  # Half a surrogate pair.
        return _ENCODER.encode([storable_request(request) for request in requests])
    if _NUL in content:
        return _ENCODER.encode([storable_request(request) for request in requests])
    return content
