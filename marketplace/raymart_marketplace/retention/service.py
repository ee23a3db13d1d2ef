"""The wish to keep, what follows when it changes, and reading. Takes a session, flushes, never commits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.retention.exchange import Ended, Exchange
from raymart_marketplace.retention.models import RETENTION_DAYS_MAX, RetainedExchange

DELETED_AT_ONCE_MAX = 1_000
"""Rows of one statement of the periodic deletion, so that no transaction is long."""

# FOR SHARE: who switches retention off waits for rows that are being stored, and then deletes them too; who comes later
# waits for the switch, and then finds it off.
_STORE = text("""
    with wish as (
        select id, prompt_retention_days as days from api_key
         where id = :api_key_id and prompt_retention_days > 0 and revoked_at is null
           for share
    )
    insert into retained_exchange (request_id, organization_id, api_key_id, sealed, created_at, expires_at)
    select :request_id, :organization_id, wish.id, :sealed, moment, moment + make_interval(days => wish.days)
      from wish, clock_timestamp() moment
        on conflict (request_id) do nothing
""")
_DELETE_EXPIRED = text("""
    delete from retained_exchange where request_id in (
        select request_id from retained_exchange where expires_at <= (select clock_timestamp())
         limit :limit for update skip locked)
""")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Exchange).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """A stored exchange, still sealed."""

    request_id: UUID
    sealed: bytes
    created_at: datetime
    expires_at: datetime

    def opened(self, box: SecretBox) -> Exchange:
        """What was said. Raises: ValueError when its key is gone or it is another request's."""
        return _decode(box.open(self.sealed, purpose=_purpose(self.request_id)))


async def set_prompt_retention(session: AsyncSession, *, api_key_id: UUID, days: int) -> ApiKey:
    """Keep prompts and completions of the key's requests for `days` from now on; 0 keeps none and deletes what is kept.

    Fewer days than before also shorten the time of what is kept; more do not lengthen it. Locks the key's row.
    Raises: InvalidRequest, NotFound, Conflict for a revoked key, except to switch it off.
    """
    if not 0 <= days <= RETENTION_DAYS_MAX:
        raise InvalidRequest(f"{days} days; give 0 to {RETENTION_DAYS_MAX}", param="days")
    locked = (
        select(ApiKey)
        .where(ApiKey.id == api_key_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    key = await session.scalar(locked)
    if key is None:
        raise NotFound(f"there is no API key {show(Prefix.API_KEY, api_key_id)!r}", param="api_key_id")
    if key.revoked_at is not None and days:
        raise Conflict("the key is revoked, for good; make another", param="api_key_id")
    key.prompt_retention_days = days
    await session.flush()
    of_key = RetainedExchange.api_key_id == api_key_id
    if not days:
        await session.execute(delete(RetainedExchange).where(of_key))
        return key
    latest = RetainedExchange.created_at + timedelta(days=days)
    shorter = update(RetainedExchange).where(of_key, RetainedExchange.expires_at > latest)
    await session.execute(shorter.values(expires_at=latest).execution_options(synchronize_session=False))
    return key


async def store(session: AsyncSession, ended: Sequence[Ended], box: SecretBox) -> int:
    """Store what the keys still wish to keep; returns how many. Safe to repeat. Locks the keys' rows, in their order."""
    rows = [
        {
            "request_id": each.request_id,
            "organization_id": each.organization_id,
            "api_key_id": each.api_key_id,
            "sealed": box.seal(_encode(each.exchange), purpose=_purpose(each.request_id)),
        }
        for each in sorted(ended, key=lambda each: each.api_key_id)
    ]
    stored = 0
    for row in rows:
        stored += (await session.execute(_STORE, row)).rowcount  # type: ignore[attr-defined]  # a cursor's result
    return stored


async def find_retained(session: AsyncSession, request_ids: Collection[UUID]) -> Sequence[Retained]:
    """What is kept of these requests and has not expired, in no order."""
    table = RetainedExchange
    found = await session.execute(
        select(table.request_id, table.sealed, table.created_at, table.expires_at).where(
            table.request_id.in_(request_ids), table.expires_at > func.clock_timestamp()
        )
    )
    return [
        Retained(request_id=request_id, sealed=sealed, created_at=created_at, expires_at=expires_at)
        for request_id, sealed, created_at, expires_at in found
    ]


async def delete_expired(session: AsyncSession) -> int:
    """Delete up to `DELETED_AT_ONCE_MAX` of what has expired; returns how many."""
    result = await session.execute(_DELETE_EXPIRED, {"limit": DELETED_AT_ONCE_MAX})
    return int(result.rowcount)  # type: ignore[attr-defined]  # a cursor's result


def _purpose(request_id: UUID) -> str:
    return f"retained exchange {request_id}"
