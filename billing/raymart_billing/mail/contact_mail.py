"""The mail that a provider's contact confirms: asked for by a row, sent by a worker. At least once; its token works once."""

from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail.channel import Channel, Notice
from raymart_billing.work import GiveUp, outbox
from raymart_marketplace.accounts.account_mail import MailTokens, hash_mail_token
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.life_models import ProviderContact
from raymart_marketplace.supply.models import Provider

log = structlog.get_logger()

CONTACT_TASK = "mail.provider_contact"
_TEXT = (
    "{provider} named this address as the one to reach it by on Raymart. Open the link within a day to confirm that:"
    "\n\n{link}\n\nOver the API: verifyProviderContact with the token {token}\n\nIf you know nothing of this, do"
    " nothing.\n"
)


async def confirm_later(session: AsyncSession, contact_id: UUID) -> None:
    """Ask a worker to send the mail once this transaction has committed."""
    await outbox.enqueue(session, task=CONTACT_TASK, subject=str(contact_id), key=str(contact_id))


async def send_contact(
    sessions: Sessions, channel: Channel, contact_id: UUID, *, tokens: MailTokens, console_url: str
) -> bool:
    """Send one mail; returns whether there was something to send. No transaction is open meanwhile.

    One that is over is not sent any more. Raises: what the channel raises; GiveUp when the marketplace's secret was
    replaced since.
    """
    async with session_scope(sessions) as session:
        query = (
            select(ProviderContact, Provider.name, ProviderContact.expires_at <= func.clock_timestamp())
            .join(Provider, Provider.id == ProviderContact.provider_id)
            .where(ProviderContact.id == contact_id)
        )
        found = (await session.execute(query)).one_or_none()
    if found is None:  # Erased meanwhile.
        return False
    contact, provider, is_late = found.tuple()
    if contact.sent_at is not None or contact.verified_at is not None or is_late:
        return False
    token = tokens.token(contact_id)
    if contact.token_hash != hash_mail_token(token):
        raise GiveUp(
            f"the token of contact {contact_id} was made with another secret; name the contact again"
        )
    await channel.send(_notice(contact, provider, token, console_url))
    async with session_scope(sessions) as session:
        sent = update(ProviderContact).where(ProviderContact.id == contact_id)
        await session.execute(sent.values(sent_at=func.clock_timestamp()))
    log.info("provider_contact.sent", contact_id=str(contact_id))
    return True


def _notice(contact: ProviderContact, provider: str, token: str, console_url: str) -> Notice:
    # After the "#": what follows it is sent to no server, and so stands in no log.
    link = f"{console_url}provider-contact#token={token}"
    return Notice(
        addresses=[contact.email],
        subject="Raymart: confirm your contact address",
        text=_TEXT.format(provider=provider, link=link, token=token),
    )
