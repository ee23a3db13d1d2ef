"""Sessions: opened by a log-in, kept alive by refreshing, ended by their owner, an operator, or a token used twice.

A refresh token is good for one use. A second use within `GRACE_S` is a lost answer as long as nobody has used the
successor, and gets that same successor again; any other second use means that somebody has a copy, and ends the session.

Source: OAuth 2.1 (draft), 4.3.1, and RFC 9700, 4.14.2 (rotation and reuse detection).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens, hash_refresh_token, is_refresh_token
from raymart_marketplace.accounts.session_models import (
    USER_AGENT_CHARACTERS_MAX,
    LoginMethod,
    RefreshToken,
    SessionEnd,
    UserSession,
)
from raymart_marketplace.audit import signed_in

log = structlog.get_logger(__name__)

GRACE_S = 10.0
"""How long a used token still gives its successor, to a client whose answer was lost."""
LISTED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """How long sessions live."""

    tokens: RefreshTokens
    idle_ttl_s: float
    """A session that is not refreshed for this long is over."""
    ttl_s: float
    """And every session after this long, however busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where somebody logs in from, as far as it can be seen."""

    user_agent: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session with the one refresh token that continues it."""

    session: UserSession
    user: User
    refresh_token: str
    """Shown this once."""
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refresh token that continues nothing."""

    revoked: UserSession | None = None
    """The session that ended by it, when it was used twice. Commit that."""


async def open_session(
    session: AsyncSession,
    policy: SessionPolicy,
    *,
    user: User,
    method: LoginMethod,
    device: Device,
    with_second_factor: bool = False,
) -> OpenSession:
    """Open a session for `user`, who has just proven who they are."""
    now = await _database_now(session)
    opened = UserSession(
        user_id=user.id,
        method=method,
        user_agent=device.user_agent[:USER_AGENT_CHARACTERS_MAX],
        address=device.address,
        last_used_at=now,
        expires_at=now + timedelta(seconds=policy.ttl_s),
        second_factor_at=now if with_second_factor else None,
    )
    session.add(opened)
    await session.flush()
    signed_in(user.id, session_id=opened.id)
    token = policy.tokens.first()
    expires_at = await _add_token(session, policy, opened, token, now)
    log.info("session.opened", session_id=str(opened.id), user_id=str(user.id), method=method.value)
    return OpenSession(session=opened, user=user, refresh_token=token, refresh_expires_at=expires_at)


async def refresh_session(
    session: AsyncSession, policy: SessionPolicy, *, refresh_token: str, address: str
) -> OpenSession | Refused:
    """Trade a refresh token for its successor. Commit whatever the outcome; locks the session's row.

    Two at once with one token get the same successor.
    """
    found = await _family_of(session, refresh_token)
    if found is None:
        return Refused()
    user = await session.get_one(User, found.user_id)
    token = await session.get_one(RefreshToken, hash_refresh_token(refresh_token))
    now = await _database_now(session)
    if found.revoked_at is not None or found.expires_at <= now or user.disabled_at is not None:
        return Refused()
    successor = policy.tokens.successor(refresh_token)
    if token.used_at is not None:
        expires_at = await _granted_again(session, token.used_at, successor, now)
    elif token.expires_at > now:
        token.used_at = found.last_used_at = now
        found.address = address
        expires_at = await _add_token(session, policy, found, successor, now)
    else:
        return Refused()
    if expires_at is None:
        await _end(session, UserSession.id == found.id, why=SessionEnd.REUSE)
        log.warning("session.token_reused", session_id=str(found.id), user_id=str(user.id))
        return Refused(revoked=found)
    return OpenSession(session=found, user=user, refresh_token=successor, refresh_expires_at=expires_at)


async def revoke_session(
    session: AsyncSession, *, user_id: UUID, session_id: UUID, why: SessionEnd
) -> UserSession:
    """End the user's session; a repeat keeps the first reason. After the commit, call `Forgetting.session`.

    Raises: NotFound, also for somebody else's.
    """
    await _end(session, UserSession.id == session_id, UserSession.user_id == user_id, why=why)
    found = await session.scalar(
        select(UserSession)
        .where(UserSession.id == session_id, UserSession.user_id == user_id)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"you have no session {show(Prefix.SESSION, session_id)!r}", param="session_id")
    return found


async def revoke_sessions(
    session: AsyncSession, *, user_id: UUID, why: SessionEnd, but: UUID | None = None
) -> Sequence[UUID]:
    """End all of the user's open sessions except `but`; returns their ids. Afterwards `Forgetting.user`."""
    conditions = [UserSession.user_id == user_id]
    if but is not None:
        conditions.append(UserSession.id != but)
    return await _end(session, *conditions, why=why)


async def open_sessions_of(session: AsyncSession, user_id: UUID) -> Sequence[UserSession]:
    """The user's open sessions, newest first; at most 1,000."""
    found = await session.scalars(
        select(UserSession)
        .where(UserSession.user_id == user_id, *is_open())
        .order_by(UserSession.id.desc())
        .limit(LISTED_MAX)
    )
    return found.all()


def is_open() -> tuple[ColumnElement[bool], ...]:
    """Conditions of a session that is neither revoked nor expired, by the database's clock."""
    return (UserSession.revoked_at.is_(None), UserSession.expires_at > func.clock_timestamp())


async def _family_of(session: AsyncSession, refresh_token: str) -> UserSession | None:
    """The session that the token belongs to, its row locked."""
    if not is_refresh_token(refresh_token):
        return None
    family = select(RefreshToken.session_id).where(
        RefreshToken.token_hash == hash_refresh_token(refresh_token)
    )
    # The lock comes by itself and first: what is read after it is what the one before has left.
    return await session.scalar(
        select(UserSession)
        .where(UserSession.id == family.scalar_subquery())
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


async def _granted_again(
    session: AsyncSession, used_at: datetime, successor: str, now: datetime
) -> datetime | None:
    """When the successor ends, if a used token may still ask for it; None when that is a reuse."""
    granted = await session.get(RefreshToken, hash_refresh_token(successor))
    # The successor is missing when the marketplace's secret was replaced meanwhile.
    if granted is None or granted.used_at is not None or now - used_at > timedelta(seconds=GRACE_S):
        return None
    return granted.expires_at


async def _add_token(
    session: AsyncSession, policy: SessionPolicy, opened: UserSession, token: str, now: datetime
) -> datetime:
    """Keep the hash of `token`; returns when it ends."""
    expires_at = min(now + timedelta(seconds=policy.idle_ttl_s), opened.expires_at)
    session.add(
        RefreshToken(
            token_hash=hash_refresh_token(token), session_id=opened.id, created_at=now, expires_at=expires_at
        )
    )
    await session.flush()
    return expires_at


async def _end(session: AsyncSession, *which: ColumnElement[bool], why: SessionEnd) -> Sequence[UUID]:
    """Revoke those of `which` that are not yet; returns their ids."""
    revoked = await session.scalars(
        update(UserSession)
        .where(*which, UserSession.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp(), revoked_why=why)
        .returning(UserSession.id)
        .execution_options(synchronize_session=False)
    )
    return revoked.all()


async def _database_now(session: AsyncSession) -> datetime:
    """The database's clock, which all processes share."""
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now
