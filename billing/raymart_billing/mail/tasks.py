"""Background work of mail, and what is forgotten of log-ins and mails that are long over."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, text

from raymart_billing.mail.account_mail import SEND_TASK, send
from raymart_billing.mail.channel import open_channel
from raymart_billing.mail.contact_mail import CONTACT_TASK, send_contact
from raymart_billing.mail.invitation_mail import INVITE_TASK, send_invitation
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_marketplace.accounts.account_mail import MailTokens
from raymart_marketplace.accounts.mail_models import AccountMail
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.db.session import session_scope

KEPT = text("clock_timestamp() - interval '30 days'")
"""So long one can still say when somebody was logged in, and from where."""


async def _send(context: TaskContext, subject: str) -> None:
    settings = context.settings
    await send(
        context.sessions,
        open_channel(settings),
        UUID(subject),
        tokens=MailTokens(settings.token_secret.get_secret_value().encode()),
        console_url=f"{settings.public_url}/console/",
    )


async def _invite(context: TaskContext, subject: str) -> None:
    settings = context.settings
    await send_invitation(
        context.sessions,
        open_channel(settings),
        UUID(subject),
        tokens=MailTokens(settings.token_secret.get_secret_value().encode()),
        console_url=f"{settings.public_url}/console/",
    )


async def _contact(context: TaskContext, subject: str) -> None:
    settings = context.settings
    await send_contact(
        context.sessions,
        open_channel(settings),
        UUID(subject),
        tokens=MailTokens(settings.token_secret.get_secret_value().encode()),
        console_url=f"{settings.public_url}/console/",
    )


async def prune(context: Context) -> None:
    """Forget sessions and mails that ended a month ago."""
    async with session_scope(context.sessions) as session:
        # Refresh tokens go with their sessions.
        await session.execute(delete(UserSession).where(UserSession.expires_at < KEPT))
        await session.execute(delete(AccountMail).where(AccountMail.created_at < KEPT))


TASKS: Sequence[Task] = (
    Task(name=SEND_TASK, handle=_send, timeout_s=90.0),
    Task(name=INVITE_TASK, handle=_invite, timeout_s=90.0),
    Task(name=CONTACT_TASK, handle=_contact, timeout_s=90.0),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="accounts.prune", handle=prune, every_s=3_600.0, timeout_s=300.0),
)
