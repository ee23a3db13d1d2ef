"""The poster: recorded usage into transfers, each exactly once.

One statement, `usage_post`, marks the usage records of up to 1,000 requests as posted, each with all of its parts, captures them and adds them to the rollups, so that
"posted", "paid for" and "counted" are one fact. The process that recorded them posts at once; the sweeper posts what that process left.
"""

from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog

from raymart_billing.connections import OUTAGE, Connection
from raymart_billing.ledger.models import TransferCode
from raymart_core.ids import Prefix, show

log = structlog.get_logger()

USAGES_PER_POST_MAX = 1_000
"""What `ledger_capture_usage` takes at once: it locks their accounts, for about 0.1 s."""

_POST = b"select usages, code, amount from usage_post(%(ids)s::uuid[])"
_UNPOSTED = b"""
    select id, coalesce(continues_id, id) from usage_record
     where posted_at is null and id > %(after)s order by id limit %(limit)s
"""
_BEFORE_ALL = UUID(int=0)


async def post_requests(connection: Connection, request_ids: Sequence[UUID]) -> int:
    """Post the unposted usage of these requests (at most 1,000); returns how many. Idempotent.

    What another poster has at hand is passed over. When the ledger refuses a batch, halves of it are tried, down to the
    one usage that it refuses: that stays unposted, for an operator to look at, and the others are posted.
    Locks the usage rows, then the accounts in id order, then rollups in the order of their keys.
    """
    assert len(request_ids) <= USAGES_PER_POST_MAX, f"batch of {len(request_ids)}"
    if not request_ids:
        return 0
    try:
        rows = await (await connection.execute(_POST, {"ids": _array(request_ids)})).fetchall()
    except OUTAGE:
        raise
    except psycopg.DatabaseError as error:
        if len(request_ids) == 1:
            log.exception(
                "usage.post_refused", request_id=show(Prefix.REQUEST, request_ids[0]), error=str(error)
            )
            return 0
        middle = len(request_ids) // 2
        first = await post_requests(connection, request_ids[:middle])
        return first + await post_requests(connection, request_ids[middle:])
    for _, code, amount in rows:
        if code == TransferCode.USAGE_SHORTFALL:
            log.error("usage.loss_taken", amount_nano_usd=amount)
    return rows[0][0] if rows else 0


async def post_usage(connection: Connection, *, limit: int = USAGES_PER_POST_MAX) -> int:
    """Post `limit` (at most 1,000) unposted usage records, oldest first, with the parts that belong to them; returns how many.

    Idempotent.
    """
    return await post_requests(
        connection, _requests(await _unposted(connection, after=_BEFORE_ALL, limit=limit))
    )


async def sweep_usage(connection: Connection) -> int:
    """Post every unposted usage record, batch by batch; returns how many.

    Goes through the records once by id, so that one that is refused holds up none of those behind it.
    """
    posted, after = 0, _BEFORE_ALL
    while batch := await _unposted(connection, after=after, limit=USAGES_PER_POST_MAX):
        posted += await post_requests(connection, _requests(batch))
        after, _ = batch[-1]
    if posted:
        log.info("usage.swept", usages=posted)
    return posted


async def _unposted(connection: Connection, *, after: UUID, limit: int) -> Sequence[tuple[UUID, UUID]]:
    """(record, request) of each."""
    cursor = await connection.execute(_UNPOSTED, {"after": after, "limit": limit})
    return await cursor.fetchall()


def _requests(records: Sequence[tuple[UUID, UUID]]) -> Sequence[UUID]:
    return list(dict.fromkeys(request_id for _, request_id in records))


def _array(ids: Sequence[UUID]) -> str:
    """An array's text. psycopg's own adapter looks at each item anew, and takes 3 µs for one; this takes a tenth."""
    return "{" + ",".join([request_id.hex for request_id in ids]) + "}"
