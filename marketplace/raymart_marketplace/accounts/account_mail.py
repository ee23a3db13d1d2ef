"""Asking for a mail, and using the token in it.

A token is an HMAC of its mail's id under a key of the marketplace: the worker that sends the mail computes it again, so
that it is written down nowhere, neither in the table nor in the outbox.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_marketplace.accounts.derived_keys import derived_key
from raymart_marketplace.accounts.mail_models import AccountMail, MailKind
from raymart_marketplace.accounts.models import User

TTL_S = {MailKind.VERIFY_EMAIL: 86_400.0, MailKind.RESET_PASSWORD: 3_600.0}
"""How long the token of a mail is good; the other kinds only tell."""
_TOKEN = re.compile(r"rmm_[A-Za-z0-9_-]{43}", re.ASCII)
_STALE = "this link is wrong, used or expired; ask for another mail"

SendLater = Callable[[AsyncSession, UUID], Awaitable[None]]
"""Asks for the mail with this id to be sent once the transaction has committed."""


class MailTokens:
    """Makes the tokens of mails."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is the marketplace's; its replacement voids what was not sent yet."""
        self._key = derived_key(secret, purpose="mail token")

    def token(self, mail_id: UUID) -> str:
        """`rmm_` and 43 characters."""
        content = hmac.digest(self._key, mail_id.bytes, "sha256")
        return "rmm_" + base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def hash_mail_token(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailing:
    """How mails come about."""

    tokens: MailTokens
    send_later: SendLater

    async def ask(self, session: AsyncSession, *, user_id: UUID, kind: MailKind) -> UUID:
        """Ask for a mail to the user in this transaction; returns its id."""
        mail_id, ttl_s = new_id(), TTL_S.get(kind)
        mail = AccountMail(id=mail_id, user_id=user_id, kind=kind)
        if ttl_s is not None:
            mail.token_hash = hash_mail_token(self.tokens.token(mail_id))
            mail.expires_at = (
                await session.execute(select(func.clock_timestamp()))
            ).scalar_one() + timedelta(seconds=ttl_s)
        session.add(mail)
        await session.flush()
        await self.send_later(session, mail_id)
        return mail_id


async def user_of_token(session: AsyncSession, token: str, *, kind: MailKind) -> User | None:
    """Whose mail of this kind the token was in, as long as it is good; it stays so."""
    if _TOKEN.fullmatch(token) is None:
        return None
    return await session.scalar(
        select(User)
        .join(AccountMail, AccountMail.user_id == User.id)
        .where(*_good(token, kind), User.disabled_at.is_(None))
    )


async def use_token(session: AsyncSession, token: str, *, kind: MailKind) -> UUID:
    """Use the token up; returns whose it is. Of two at once, one gets it. Raises: InvalidRequest."""
    user_id: UUID | None = None
    if _TOKEN.fullmatch(token) is not None:
        user_id = await session.scalar(
            update(AccountMail)
            .where(*_good(token, kind))
            .values(used_at=func.clock_timestamp())
            .returning(AccountMail.user_id)
        )
    if user_id is None:
        raise InvalidRequest(_STALE, param="token")
    return user_id


async def void_tokens(session: AsyncSession, *, user_id: UUID) -> None:
    """Let no mail that was sent to the user before do anything any more."""
    await session.execute(
        update(AccountMail)
        .where(
            AccountMail.user_id == user_id, AccountMail.token_hash.is_not(None), AccountMail.used_at.is_(None)
        )
        .values(used_at=func.clock_timestamp())
    )


def _good(token: str, kind: MailKind) -> tuple[ColumnElement[bool], ...]:
    return (
        AccountMail.token_hash == hash_mail_token(token),
        AccountMail.kind == kind,
        AccountMail.used_at.is_(None),
        AccountMail.expires_at > func.clock_timestamp(),
    )
