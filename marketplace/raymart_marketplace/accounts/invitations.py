"""Inviting people to an organization: a mail with a token that works once, within a week, for that address alone."""

import re
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts.account_mail import MailTokens, hash_mail_token
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.invitation_models import Invitation
from raymart_marketplace.accounts.members import lock_organization, require_grantable, role_of
from raymart_marketplace.accounts.models import Membership, Role, User
from raymart_marketplace.accounts.permissions import grantable_roles

INVITATION_TTL = timedelta(days=7)
OPEN_INVITATIONS_MAX = 100
"""Invitations of one organization that nobody has answered."""
_TOKEN = re.compile(r"rmm_[A-Za-z0-9_-]{43}", re.ASCII)
_STALE = "this invitation is wrong, used, revoked or expired; ask for another"


async def invite(
    session: AsyncSession,
    *,
    organization_id: UUID,
    inviter_id: UUID,
    email: str,
    role: Role,
    tokens: MailTokens,
) -> Invitation:
    """Offer `role` to whoever reads mail at `email`; replaces an open invitation to the same address.

    Locks the organization's row. Raises: InvalidRequest, Forbidden for a role above the inviter's own, Conflict when the
    address is a member's or too many invitations are open.
    """
    address = normal_email(email)
    kind = await lock_organization(session, organization_id)
    own = await role_of(session, organization_id=organization_id, user_id=inviter_id)
    require_grantable(kind, own, role)
    member = select(Membership.id).join(User, User.id == Membership.user_id)
    if await session.scalar(
        member.where(Membership.organization_id == organization_id, User.email == address)
    ):
        raise Conflict(f"{address!r} is a member already; change the role instead", param="email")
    await revoke_invitation(session, organization_id=organization_id, email=address, must_exist=False)
    open_now = await session.scalar(
        select(func.count()).where(*_open_of(organization_id), Invitation.expires_at > func.clock_timestamp())
    )
    if (open_now or 0) >= OPEN_INVITATIONS_MAX:
        raise Conflict(f"{open_now} invitations are open, the most there may be; revoke one first")
    invitation_id = new_id()
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    invitation = Invitation(
        id=invitation_id,
        organization_id=organization_id,
        email=address,
        role=role,
        token_hash=hash_mail_token(tokens.token(invitation_id)),
        invited_by=inviter_id,
        expires_at=now + INVITATION_TTL,
    )
    session.add(invitation)
    await session.flush()
    return invitation


async def revoke_invitation(
    session: AsyncSession, *, organization_id: UUID, email: str, must_exist: bool = True
) -> None:
    """Let the open invitation to the address do nothing any more. Raises: NotFound when there is none."""
    address = normal_email(email)
    ended = await session.scalar(
        update(Invitation)
        .where(*_open_of(organization_id), Invitation.email == address)
        .values(revoked_at=func.clock_timestamp())
        .returning(Invitation.id)
    )
    if ended is None and must_exist:
        raise NotFound(f"no invitation to {address!r} is open", param="email")


async def accept_invitation(session: AsyncSession, *, token: str, user_id: UUID) -> UUID:
    """Make the user a member; returns the organization. Of two at once one gets it.

    The invitation is to an address: whoever else holds the token is refused. Nothing is given that the one who invited
    may not give any more. Raises: InvalidRequest, Forbidden, Conflict for somebody who is a member.
    """
    if _TOKEN.fullmatch(token) is None:
        raise InvalidRequest(_STALE, param="token")
    user = (await session.scalars(select(User).where(User.id == user_id))).one()
    invitation = await session.scalar(
        select(Invitation)
        .where(
            Invitation.token_hash == hash_mail_token(token),
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
            Invitation.expires_at > func.clock_timestamp(),
        )
        .with_for_update()
    )
    if invitation is None:
        raise InvalidRequest(_STALE, param="token")
    if invitation.email != user.email:
        raise Forbidden("the invitation is to another address; log in with the one that the mail came to")
    kind = await lock_organization(session, invitation.organization_id)
    inviters = await role_of(
        session, organization_id=invitation.organization_id, user_id=invitation.invited_by
    )
    if inviters is None or invitation.role not in grantable_roles(kind, inviters):
        raise InvalidRequest(
            "who invited you may not do so any more; ask for another invitation", param="token"
        )
    made = await session.scalar(
        insert(Membership)
        .values(
            id=new_id(), organization_id=invitation.organization_id, user_id=user_id, role=invitation.role
        )
        .on_conflict_do_nothing()
        .returning(Membership.id)
    )
    if made is None:
        raise Conflict("you are a member already")
    await session.execute(
        update(Invitation).where(Invitation.id == invitation.id).values(accepted_at=func.clock_timestamp())
    )
    return invitation.organization_id


def _open_of(organization_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return (
        Invitation.organization_id == organization_id,
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
    )
