"""Mails about a person's account: asked for by a row, sent by a worker. At least once; the token in them works once."""

from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail.channel import Channel, Notice
from raymart_billing.work import GiveUp, outbox
from raymart_marketplace.accounts.account_mail import MailTokens, hash_mail_token
from raymart_marketplace.accounts.mail_models import AccountMail, MailKind
from raymart_marketplace.accounts.models import User
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

SEND_TASK = "mail.account"
_SUBJECTS = {
    MailKind.VERIFY_EMAIL: "Verify your e-mail address",
    MailKind.RESET_PASSWORD: "Choose a new password",
    MailKind.ADDRESS_TAKEN: "You have an account already",
    MailKind.PASSWORD_CHANGED: "Your password was changed",
    MailKind.SECOND_FACTOR_CHANGED: "Your second factor was changed",
}
_TEXTS = {
    MailKind.VERIFY_EMAIL: (
        "Somebody, probably you, signed up to Raymart with this address. Open the link within a day and give the password"
        " that you chose:\n\n{link}\n\nOver the API: verifyEmail with the token {token}\n\n"
        "If that was not you, do nothing: without the password that was chosen the link opens nothing. To take the account"
        " over, ask for a new password with this address.\n"
    ),
    MailKind.RESET_PASSWORD: (
        "Somebody, probably you, asked for a new password. Open the link within an hour and choose one:\n\n{link}\n\n"
        "Over the API: resetPassword with the token {token}\n\nIf that was not you, do nothing.\n"
    ),
    MailKind.ADDRESS_TAKEN: (
        "Somebody, probably you, signed up to Raymart with this address, which has an account already. Log in instead, or"
        " ask for a new password if you have forgotten yours.\n"
    ),
    MailKind.PASSWORD_CHANGED: (
        "The password of your account was changed, and everybody who was logged in with the old one is out. If that was not"
        " you, ask for a new password at once and write to support.\n"
    ),
    MailKind.SECOND_FACTOR_CHANGED: (
        "The second factor of your account was switched on or off. If that was not you, change your password at once and"
        " write to support.\n"
    ),
}
_PAGES = {MailKind.VERIFY_EMAIL: "verify-email", MailKind.RESET_PASSWORD: "reset-password"}


async def send_later(session: AsyncSession, mail_id: UUID) -> None:
    """Ask a worker to send the mail once this transaction has committed."""
    await outbox.enqueue(session, task=SEND_TASK, subject=str(mail_id), key=str(mail_id))


async def send(
    sessions: Sessions, channel: Channel, mail_id: UUID, *, tokens: MailTokens, console_url: str
) -> bool:
    """Send one mail; returns whether there was something to send. No transaction is open meanwhile.

    One that is too old to be of use is not sent any more. Raises: what the channel raises; GiveUp when the marketplace's
    secret was replaced since the mail was asked for.
    """
    async with session_scope(sessions) as session:
        query = (
            select(AccountMail, User)
            .join(User, User.id == AccountMail.user_id)
            .where(AccountMail.id == mail_id)
        )
        mail, user = (await session.execute(query)).one().tuple()
        now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    is_over = mail.used_at is not None or (mail.expires_at is not None and mail.expires_at <= now)
    if mail.sent_at is not None or is_over or user.disabled_at is not None:
        return False
    token = tokens.token(mail_id)
    if mail.token_hash is not None and mail.token_hash != hash_mail_token(token):
        raise GiveUp(
            f"the token of mail {mail_id} was made with another secret; let the person ask for another"
        )
    await channel.send(_notice(mail.kind, user, token, console_url))
    async with session_scope(sessions) as session:
        sent = update(AccountMail).where(AccountMail.id == mail_id).values(sent_at=func.clock_timestamp())
        await session.execute(sent)
    log.info("account_mail.sent", mail_id=str(mail_id), kind=mail.kind.value)
    return True


def _notice(kind: MailKind, user: User, token: str, console_url: str) -> Notice:
    # After the "#": what follows it is sent to no server, and so stands in no log.
    link = f"{console_url}{_PAGES.get(kind, '')}#token={token}"
    return Notice(
        addresses=[user.email],
        subject=f"Raymart: {_SUBJECTS[kind]}",
        text=_TEXTS[kind].format(link=link, token=token),
    )
