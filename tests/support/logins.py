"""Proving a password past the throttle, for tests that are about something else."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.passwords import verify_password
from raymart_marketplace.accounts.service import user_by_email


async def log_in(session: AsyncSession, *, email: str, password: str) -> User:
    """The user with this address, whose password this is."""
    user = await user_by_email(session, email)
    assert user is not None, f"no account has {email!r}"
    assert await asyncio.to_thread(verify_password, password, user.password_hash), "a wrong password"
    return user
