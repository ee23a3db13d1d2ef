"""Signing up, verifying the address, and getting back in.

Nobody learns from an answer which addresses have accounts: what differs is told by mail, to the address alone. An account
whose address is not verified may log in and look around, and nothing that touches money or inference.

Verifying takes the mail's token *and* the password: else somebody could sign up with another's address and their own
password, and wait for the owner to click.
"""

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest
from raymart_marketplace.accounts.account_mail import Mailing, use_token, void_tokens
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.mail_models import MailKind
from raymart_marketplace.accounts.models import OrganizationKind, Role, User
from raymart_marketplace.accounts.names import clean_name
from raymart_marketplace.accounts.password_policy import check_password
from raymart_marketplace.accounts.service import add_member, add_user, create_organization, user_by_email
from raymart_marketplace.accounts.session_models import SessionEnd
from raymart_marketplace.accounts.sessions import revoke_sessions
from raymart_marketplace.accounts.throttle import Limit
from raymart_marketplace.audit import signed_in

SIGN_UP_KINDS = frozenset({OrganizationKind.CUSTOMER, OrganizationKind.PROVIDER})
NO_NEW_ACCOUNTS = "the marketplace takes no new accounts for the moment; ask for an invitation"
"""What strangers are told while the feature `signups_open` is off, whichever way they come."""


def sign_up_limit(network: str) -> Limit:
    """20 sign-ups an hour from one network, each counted whatever its outcome."""
    return Limit(name=f"sign-up:{network}", free=20, pause_s_min=60, pause_s_max=3_600, forget_s=3_600)


def mail_limit(what: str, whose: str) -> Limit:
    """3 mails of a kind an hour to one person, or for one network 20; then fewer and fewer."""
    return Limit(name=f"mail:{what}:{whose}", free=3, pause_s_min=300, pause_s_max=3_600, forget_s=3_600)


def check_sign_up(
    *, email: str, password: str, name: str, organization_name: str, kind: OrganizationKind
) -> None:
    """Refuse what nobody may sign up with, before a password is hashed. Raises: InvalidRequest."""
    address = normal_email(email)
    shown = clean_name(name, param="name")
    organization = clean_name(organization_name, param="organization_name")
    if kind not in SIGN_UP_KINDS:
        raise InvalidRequest(
            "nobody signs up for the platform itself; its people are made by `raymart admin create`",
            param="organization_kind",
        )
    check_password(password, context=(address, shown, organization))


async def register(
    session: AsyncSession,
    mailing: Mailing,
    *,
    email: str,
    password_hash: str,
    name: str,
    organization_name: str,
    kind: OrganizationKind,
) -> None:
    """Make an account that waits for its address to be verified; for an address with one, only write to it.

    Both look the same from outside. Of two at once with one address, one makes the account.
    """
    user = await add_user(session, email=email, name=name, password_hash=password_hash, is_verified=False)
    if user is None:
        owner = await user_by_email(session, email)
        assert owner is not None, "its row has refused ours"
        mail = MailKind.VERIFY_EMAIL if owner.email_verified_at is None else MailKind.ADDRESS_TAKEN
        await mailing.ask(session, user_id=owner.id, kind=mail)
        return
    organization = await create_organization(session, name=organization_name, kind=kind)
    await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.OWNER)
    await mailing.ask(session, user_id=user.id, kind=MailKind.VERIFY_EMAIL)


async def verify_email(session: AsyncSession, *, token: str) -> UUID:
    """Use the token of a mail up; returns who has proven their address. The caller has checked the password.

    After the commit, call `Forgetting.user`. Raises: InvalidRequest.
    """
    user_id = await use_token(session, token, kind=MailKind.VERIFY_EMAIL)
    signed_in(user_id)
    await _verified(session, user_id)
    return user_id


async def ask_to_verify(session: AsyncSession, mailing: Mailing, *, user_id: UUID) -> None:
    """Send the mail again. Raises: Conflict when the address is verified already."""
    user = await session.get_one(User, user_id)
    if user.email_verified_at is not None:
        raise Conflict(f"the address {user.email!r} is verified already")
    await mailing.ask(session, user_id=user_id, kind=MailKind.VERIFY_EMAIL)


async def ask_for_reset(session: AsyncSession, mailing: Mailing, *, email: str) -> None:
    """Write to the address how to choose a new password, if it has an account; else do nothing."""
    user = await user_by_email(session, email)
    if user is not None and user.disabled_at is None:
        await mailing.ask(session, user_id=user.id, kind=MailKind.RESET_PASSWORD)


async def reset_password(session: AsyncSession, mailing: Mailing, *, token: str, password_hash: str) -> UUID:
    """Replace the password of whom the mail was for, and end all their sessions; returns who that is.

    Who reads the mail has the address: it is verified by this. After the commit, call `Forgetting.user`.
    Raises: InvalidRequest.
    """
    user_id = await use_token(session, token, kind=MailKind.RESET_PASSWORD)
    signed_in(user_id)
    await _verified(session, user_id)
    await replace_password(session, mailing, user_id=user_id, password_hash=password_hash, but=None)
    return user_id


async def replace_password(
    session: AsyncSession, mailing: Mailing, *, user_id: UUID, password_hash: str, but: UUID | None
) -> None:
    """Set the password, end all sessions except `but`, void what mails could do, and tell the owner."""
    await session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))
    await revoke_sessions(session, user_id=user_id, why=SessionEnd.PASSWORD, but=but)
    await void_tokens(session, user_id=user_id)
    await mailing.ask(session, user_id=user_id, kind=MailKind.PASSWORD_CHANGED)


async def _verified(session: AsyncSession, user_id: UUID) -> None:
    await session.execute(
        update(User)
        .where(User.id == user_id, User.email_verified_at.is_(None))
        .values(email_verified_at=func.clock_timestamp())
    )
