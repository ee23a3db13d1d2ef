"""Which of many credentials, each good when it was looked up, are good still; in two statements."""

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.accounts.authenticator import Known
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.accounts.sessions import is_open


async def good_credentials(session: AsyncSession, known: Collection[Known]) -> Callable[[Known], bool]:
    """Tells of each of `known` whether its key is neither revoked nor expired, or its log-in still open.

    A token's own expiry is in its claims, and whether its user is disabled is for who reads the user. A former key that
    was replaced counts as its successor.
    """
    keys = {each.caller.api_key_id for each in known if each.claims is None and each.caller is not None}
    log_ins = {each.claims.session_id for each in known if each.claims is not None}
    living_keys = await _living(session, keys - {None})
    open_log_ins = await _open(session, log_ins - {None})

    def is_good(each: Known) -> bool:
        if each.claims is not None:
            return each.claims.session_id is None or each.claims.session_id in open_log_ins
        assert each.caller is not None
        return each.caller.api_key_id in living_keys

    return is_good


async def _living(session: AsyncSession, key_ids: Collection[UUID | None]) -> Collection[UUID]:
    if not key_ids:
        return ()
    statement = select(ApiKey.id).where(
        ApiKey.id.in_(key_ids),
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()),
    )
    return set(await session.scalars(statement))


async def _open(session: AsyncSession, session_ids: Collection[UUID | None]) -> Collection[UUID]:
    if not session_ids:
        return ()
    found: Sequence[UUID] = (
        await session.scalars(select(UserSession.id).where(UserSession.id.in_(session_ids), *is_open()))
    ).all()
    return set(found)
