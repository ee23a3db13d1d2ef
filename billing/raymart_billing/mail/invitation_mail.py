"""The mail of an invitation: asked for by a row, sent by a worker. At least once; the token in it works once."""

from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail.channel import Channel, Notice
from raymart_billing.work import GiveUp, outbox
from raymart_marketplace.accounts.account_mail import MailTokens, hash_mail_token
from raymart_marketplace.accounts.invitation_models import Invitation
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

INVITE_TASK = "mail.invitation"
_TEXT = (
    "You were invited to {organization} on Raymart, as {role}. Open the link within a week, and log in or sign up with this"
    " address:\n\n{link}\n\nOver the API: acceptInvitation with the token {token}\n\nIf you expected no invitation, do"
    " nothing.\n"
)


async def invite_later(session: AsyncSession, invitation_id: UUID) -> None:
    """Ask a worker to send the invitation's mail once this transaction has committed."""
    await outbox.enqueue(session, task=INVITE_TASK, subject=str(invitation_id), key=str(invitation_id))


async def send_invitation(
    sessions: Sessions, channel: Channel, invitation_id: UUID, *, tokens: MailTokens, console_url: str
) -> bool:
    """Send one invitation; returns whether there was something to send. No transaction is open meanwhile.

    One that is over is not sent any more. Raises: what the channel raises; GiveUp when the marketplace's secret was
    replaced since.
    """
    async with session_scope(sessions) as session:
        query = (
            select(Invitation, Organization.name, Invitation.expires_at <= func.clock_timestamp())
            .join(Organization, Organization.id == Invitation.organization_id)
            .where(Invitation.id == invitation_id)
        )
        invitation, organization, is_late = (await session.execute(query)).one().tuple()
    is_over = is_late or invitation.accepted_at is not None or invitation.revoked_at is not None
    if invitation.sent_at is not None or is_over:
        return False
    token = tokens.token(invitation_id)
    if invitation.token_hash != hash_mail_token(token):
        raise GiveUp(f"the token of invitation {invitation_id} was made with another secret; invite again")
    await channel.send(_notice(invitation, organization, token, console_url))
    async with session_scope(sessions) as session:
        sent = update(Invitation).where(Invitation.id == invitation_id)
        await session.execute(sent.values(sent_at=func.clock_timestamp()))
    log.info("invitation.sent", invitation_id=str(invitation_id))
    return True


def _notice(invitation: Invitation, organization: str, token: str, console_url: str) -> Notice:
    # After the "#": what follows it is sent to no server, and so stands in no log.
    link = f"{console_url}invitation#token={token}"
    return Notice(
        addresses=[invitation.email],
        subject="Raymart: you are invited",
        text=_TEXT.format(organization=organization, role=invitation.role.value, link=link, token=token),
    )
