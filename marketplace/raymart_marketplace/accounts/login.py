"""Logging in with a password: throttled, and as slow for an address without an account as for one with."""

from uuid import UUID

from sqlalchemy import update

from raymart_core.errors import NotAuthenticated
from raymart_marketplace.accounts.login_limits import LoginLimits
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.password_work import PasswordWork
from raymart_marketplace.accounts.passwords import NOBODYS_HASH, is_outdated
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.db.session import Sessions, session_scope

WRONG = "the e-mail address or the password is wrong"


class PasswordLogin:
    """Proves who people are by their password. One per process."""

    def __init__(self, sessions: Sessions, limits: LoginLimits, work: PasswordWork) -> None:
        self._sessions = sessions
        self._limits = limits
        self._work = work

    async def prove(self, *, email: str, password: str, address: str) -> User:
        """The user with this e-mail address and password, asked from a network `address`.

        A failure writes no row, and takes the same time whether or not there is an account. No transaction is open while
        the password is hashed. Raises: NotAuthenticated, with one message for an unknown address, a wrong password and a
        disabled user; Overloaded after too many failures.
        """
        limits = await self._limits.admit(email=email, address=address)
        async with session_scope(self._sessions) as session:
            user = await user_by_email(session, email)
        known_hash = NOBODYS_HASH if user is None else user.password_hash
        matches = await self._work.verify(password, known_hash)
        if user is None or not matches or user.disabled_at is not None:
            raise NotAuthenticated(WRONG)
        await self._limits.succeeded(limits, email=email, address=address)
        if is_outdated(known_hash):
            await self._hash_anew(user.id, password, known_hash)
        return user

    async def _hash_anew(self, user_id: UUID, password: str, known_hash: str) -> None:
        """Keep the password by the parameters of today, unless it was changed meanwhile."""
        password_hash = await self._work.hash(password)
        async with session_scope(self._sessions) as session:
            await session.execute(
                update(User)
                .where(User.id == user_id, User.password_hash == known_hash)
                .values(password_hash=password_hash)
            )
