"""Between the two steps of a log-in: a sealed note that the first one was done, which needs no row anywhere.

It opens nothing without a code, and ends with the password that it followed.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.clock import Clock
from raymart_core.errors import NotAuthenticated
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.accounts.session_models import LoginMethod

TTL_S = 300.0
_PURPOSE = "login challenge"
_STALE = "this challenge is wrong or expired; log in again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the client sends back with the code."""

    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginChallenges:
    """Makes and reads them."""

    box: SecretBox
    clock: Clock

    def make(self, user: User, method: LoginMethod) -> Challenge:
        """A note that `user` has done the first step."""
        expires_at = self.clock.now() + timedelta(seconds=TTL_S)
        content = [user.id.hex, method.value, int(expires_at.timestamp()), _version(user)]
        sealed = self.box.seal(json.dumps(content).encode(), purpose=_PURPOSE)
        text = "rmc_" + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
        return Challenge(text=text, expires_at=expires_at)

    async def read(self, session: AsyncSession, text: str) -> tuple[User, LoginMethod]:
        """Who has done the first step, and how. Raises: NotAuthenticated."""
        head, _, sealed = text.partition("_")
        try:
            content = json.loads(
                self.box.open(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)), purpose=_PURPOSE)
            )
        except (ValueError, UnicodeEncodeError):
            raise NotAuthenticated(_STALE, param="challenge") from None
        user_id, method, expires_at, version = content
        user = await session.get(User, UUID(hex=user_id))
        is_over = expires_at <= self.clock.now().timestamp() or head != "rmc"
        if user is None or user.disabled_at is not None or is_over or version != _version(user):
            raise NotAuthenticated(_STALE, param="challenge")
        return user, LoginMethod(method)


def _version(user: User) -> str:
    """Changes with the password."""
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:16]
