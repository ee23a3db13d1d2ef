"""Changing a key that is in use: its name and terms, and its secret. Takes a session, flushes, never commits.

After the commit the caller ends what is remembered of the key (`Forgetting.key`), so that the change counts at once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.answer_cache import checked_answer_cache_s
from raymart_marketplace.accounts.api_keys import make_key
from raymart_marketplace.accounts.key_terms import stored_models, stored_scopes
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.accounts.names import clean_name
from raymart_marketplace.accounts.scopes import KeyScope

OVERLAP_S_MAX = 86_400
"""How long a rotated key's former secret may go on working."""


class Unchanged:
    """Stands for what a change leaves as it is; None means "no limit" for most of a key's terms."""


UNCHANGED: Final = Unchanged()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What to change of a key."""

    name: str | Unchanged = UNCHANGED
    scopes: Collection[KeyScope] | Unchanged = UNCHANGED
    models: Collection[str] | Unchanged | None = UNCHANGED
    """None allows all."""
    expires_at: datetime | Unchanged | None = UNCHANGED
    """None for never."""
    answer_cache_s: int | Unchanged | None = UNCHANGED
    """0 for not at all, None for what its project says."""


async def update_api_key(session: AsyncSession, *, api_key_id: UUID, change: KeyChange) -> ApiKey:
    """Change a key that is not revoked. Locks its row. Raises: NotFound, Conflict when revoked, InvalidRequest."""
    key = await _locked(session, api_key_id)
    if not isinstance(change.name, Unchanged):
        key.name = clean_name(change.name, param="name")
    if not isinstance(change.scopes, Unchanged):
        key.scopes = stored_scopes(change.scopes)
    if not isinstance(change.models, Unchanged):
        key.models = await stored_models(session, change.models)
    if not isinstance(change.expires_at, Unchanged):
        await _require_future(session, change.expires_at)
        key.expires_at = change.expires_at
    if not isinstance(change.answer_cache_s, Unchanged):
        seconds = change.answer_cache_s
        key.answer_cache_s = (
            None if seconds is None else checked_answer_cache_s(seconds, param="answer_cache_seconds")
        )
    await session.flush()
    return key


async def rotate_api_key(session: AsyncSession, *, api_key_id: UUID, overlap_s: int) -> tuple[ApiKey, str]:
    """Give the key another secret; the present one works for `overlap_s` seconds more, 0 to 86,400.

    The key keeps its id, terms, budgets and usage. A second rotation within the overlap ends the first secret at once:
    two secrets work at most. The second value is the new secret: show it once. Locks the key's row.
    Raises: NotFound, Conflict when the key is revoked or expired, InvalidRequest.
    """
    if not 0 <= overlap_s <= OVERLAP_S_MAX:
        raise InvalidRequest(
            f"an overlap of {overlap_s} s; give 0 to {OVERLAP_S_MAX}", param="overlap_seconds"
        )
    key = await _locked(session, api_key_id)
    now = await session.scalar(select(func.clock_timestamp()))
    assert isinstance(now, datetime)
    if key.expires_at is not None and key.expires_at <= now:
        raise Conflict("the key has expired; make another, or move its end first", param="api_key_id")
    secret = make_key()
    if overlap_s:
        key.former_key_hash, key.former_ends_at = key.key_hash, now + timedelta(seconds=overlap_s)
    else:
        key.former_key_hash, key.former_ends_at = None, None
    key.prefix, key.key_hash, key.rotated_at = secret.prefix, secret.key_hash, now
    await session.flush()
    return key, secret.text


async def _locked(session: AsyncSession, api_key_id: UUID) -> ApiKey:
    """The key, its row locked. Raises: NotFound, Conflict when it is revoked."""
    statement = (
        select(ApiKey)
        .where(ApiKey.id == api_key_id)
        # FOR NO KEY UPDATE: usage that names the key goes on being written.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    key = await session.scalar(statement)
    if key is None:
        raise NotFound(f"there is no API key {show(Prefix.API_KEY, api_key_id)!r}", param="api_key_id")
    if key.revoked_at is not None:
        raise Conflict("the key is revoked, for good; make another", param="api_key_id")
    return key


async def _require_future(session: AsyncSession, expires_at: datetime | None) -> None:
    """Raises: InvalidRequest for an end that the database's clock has passed."""
    if expires_at is not None and await session.scalar(select(func.clock_timestamp() >= expires_at)):
        raise InvalidRequest(f"expires_at {expires_at.isoformat()} is in the past", param="expires_at")
