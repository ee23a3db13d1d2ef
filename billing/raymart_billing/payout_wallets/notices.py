"""Mails about payout wallets, to everybody who may choose them. At least once.

A change of where money goes is told to all owners, whoever made it: the one whose session was stolen reads it too, and
has the cool-down to act.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail import Channel, Notice
from raymart_billing.payout_wallets.models import PayoutWallet
from raymart_billing.payout_wallets.requests import Event
from raymart_marketplace.accounts.models import Membership, Organization, Role, User
from raymart_marketplace.accounts.permissions import Permission, roles_with
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

RECIPIENTS_MAX = 20
_NOT_YOU = (
    "If that was not you or one of your people: log in, take the change back with cancelPayoutWallet (Provider,"
    " payout wallet), change your password, end all other sessions, and write to support. Whoever did this has a session"
    " of yours and your second factor."
)


async def tell(sessions: Sessions, channel: Channel, wallet_id: UUID, event: Event) -> bool:
    """Send the mail of `event`; returns whether there was anybody to tell. No transaction is open meanwhile.

    Raises: what the channel raises.
    """
    async with session_scope(sessions) as session:
        wallet = await session.get(PayoutWallet, wallet_id)
        if wallet is None:  # Its organization was erased meanwhile.
            return False
        chosen_by = await session.scalar(select(User.email).where(User.id == wallet.chosen_by))
        earlier = None
        if wallet.earlier_id is not None:
            earlier = await session.scalar(
                select(PayoutWallet.address).where(PayoutWallet.id == wallet.earlier_id)
            )
        addresses = await _owners(session, wallet.organization_id)
    if not addresses:
        return False
    await channel.send(_notice(wallet, event, addresses=addresses, chosen_by=chosen_by, earlier=earlier))
    log.info("payout_wallet.told", wallet_id=str(wallet_id), notice=event.value, recipients=len(addresses))
    return True


async def _owners(session: AsyncSession, organization_id: UUID) -> Sequence[str]:
    people = (
        select(User.email)
        .join(Membership, Membership.user_id == User.id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(
            Membership.organization_id == organization_id,
            tuple_(Organization.kind, Membership.role).in_(roles_with(Permission.PAYOUTS_MANAGE)),
            User.disabled_at.is_(None),
        )
        .order_by(Membership.role != Role.OWNER, Membership.id)
        .limit(RECIPIENTS_MAX)
    )
    return (await session.scalars(people)).all()


def _notice(
    wallet: PayoutWallet,
    event: Event,
    *,
    addresses: Sequence[str],
    chosen_by: str | None,
    earlier: str | None,
) -> Notice:
    match event:
        case Event.CHOSEN:
            subject, text = _chosen(wallet, chosen_by=chosen_by, earlier=earlier)
        case Event.CANCELLED:
            back = (
                f"\n\nEarnings go to {earlier} again." if earlier else "\n\nNo payout wallet is chosen now."
            )
            subject = "the change of your payout wallet was cancelled"
            text = f"The change to {wallet.address} was taken back before it could be paid.{back}\n"
        case Event.PROOF_WITHDRAWN:
            subject = "your payout wallet is no longer paid"
            text = (
                f"The proof that you own {wallet.address} was withdrawn, and with it the choice of it as payout wallet."
                " Nothing is paid until another wallet is proven and chosen, which then cools down.\n\n"
                f"{_NOT_YOU}\n"
            )
        case Event.CHECK_FAILED:
            subject = "your payout wallet cannot be paid"
            text = (
                f"{wallet.address} cannot be paid: {wallet.check_finding}. Nothing was sent to it. Choose another"
                " wallet; what you have earned stays yours meanwhile.\n"
            )
    return Notice(addresses=addresses, subject=f"Raymart: {subject}", text=text)


def _chosen(wallet: PayoutWallet, *, chosen_by: str | None, earlier: str | None) -> tuple[str, str]:
    """Subject and text of a choice's mail."""
    who = chosen_by or "somebody"
    at = _moment(wallet.created_at)
    if wallet.is_first:
        return (
            "your payout wallet was chosen",
            (
                f"On {at} {who} chose the wallet that your earnings are paid to:\n\n    {wallet.address}\n\n"
                "If that was not you or one of your people: log in and withdraw the wallet with withdrawWallet at once,"
                " change your password, end all other sessions, and write to support.\n"
            ),
        )
    before = f"\n\nUntil now it was:\n\n    {earlier}" if earlier else ""
    return (
        "your payout wallet was changed",
        (
            f"On {at} {who} changed the wallet that your earnings are paid to:\n\n    {wallet.address}{before}\n\n"
            f"Nothing is paid to either before {_moment(wallet.payable_from)}; until then the change can be taken back.\n\n"
            f"{_NOT_YOU}\n"
        ),
    )


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M} UTC"
