"""From an identity at a provider to a user here. Takes a session, flushes, never commits.

A user is found by (issuer, subject) alone. An e-mail address, verified or not, opens nobody's account: whoever has one
links the identity from inside, having logged in as before. Only an address without an account begins a new one.
"""

from collections.abc import Collection

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotAuthenticated, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.models import OrganizationKind, Role, User
from raymart_marketplace.accounts.names import NAME_CHARACTERS_MAX, clean_name
from raymart_marketplace.accounts.oidc_identity import Identity
from raymart_marketplace.accounts.oidc_models import OidcIdentity
from raymart_marketplace.accounts.passwords import NOBODYS_HASH
from raymart_marketplace.accounts.registration import NO_NEW_ACCOUNTS
from raymart_marketplace.accounts.service import add_member, add_user, create_organization

log = structlog.get_logger(__name__)

_HAS_ACCOUNT = (
    "the e-mail address has an account here; log in as before, then link this login with `linkOidcIdentity`"
)


async def user_of_identity(
    session: AsyncSession, identity: Identity, *, domains: Collection[str], takes_new: bool
) -> User:
    """The user whom the identity logs in, made with an organization of their own at the first time.

    `domains` are those that a verified address must be of, none asked for when empty; `takes_new` says whether strangers
    may make accounts. Raises: NotAuthenticated for a disabled user, Forbidden for an address that does not let in and
    for a stranger who may not, Conflict when the address's account is not linked.
    """
    _require_domain(identity, domains)
    found = await session.scalar(
        select(OidcIdentity)
        .where(OidcIdentity.issuer == identity.issuer, OidcIdentity.subject == identity.subject)
        .with_for_update(key_share=True)
    )
    if found is None:
        if not takes_new:
            raise Forbidden(NO_NEW_ACCOUNTS)
        return await _sign_up(session, identity)
    user = await session.get_one(User, found.user_id)
    if user.disabled_at is not None:
        raise NotAuthenticated("this account is disabled")
    await _logged_in(session, found, identity)
    return user


async def link_identity(
    session: AsyncSession, user: User, identity: Identity, *, domains: Collection[str]
) -> OidcIdentity:
    """Let the identity log `user` in, who is logged in already; a repeat changes nothing.

    Raises: Forbidden, Conflict when it is somebody else's, or the user has another identity of the same provider.
    """
    _require_domain(identity, domains)
    linked = await _insert(session, user, identity)
    if linked is None:
        raise Conflict(
            "this login belongs to another account, or another login of this provider to yours; unlink that first"
        )
    log.info("oidc.linked", user_id=str(user.id), issuer=identity.issuer)
    return linked


async def unlink_identity(session: AsyncSession, user: User, *, issuer: str) -> OidcIdentity:
    """Let the issuer's identity log the user in no more. Raises: NotFound."""
    found = await session.scalar(
        select(OidcIdentity).where(OidcIdentity.user_id == user.id, OidcIdentity.issuer == issuer)
    )
    if found is None:
        raise NotFound("no login of this provider is linked", param="provider")
    await session.delete(found)
    await session.flush()
    log.info("oidc.unlinked", user_id=str(user.id), issuer=issuer)
    return found


async def _sign_up(session: AsyncSession, identity: Identity) -> User:
    """A user for an identity that is not linked. Raises: Forbidden, Conflict."""
    if identity.email is None or not identity.email_verified:
        raise Forbidden("the login provider has not verified your e-mail address; verify it there first")
    try:
        email = normal_email(identity.email)
    except InvalidRequest:
        raise Forbidden("the login provider knows you by no e-mail address that we take") from None
    name = _name(identity, email)
    # Nobody knows the password behind this hash; a reset by e-mail gives the account one.
    user = await add_user(session, email=email, name=name, password_hash=NOBODYS_HASH, is_verified=True)
    if user is None:
        raise Conflict(_HAS_ACCOUNT)
    if await _insert(session, user, identity) is None:
        # Two first log-ins at once, with two addresses: the other one won.
        raise Conflict("this login was just used elsewhere; begin again")
    organization = await create_organization(session, name=name, kind=OrganizationKind.CUSTOMER)
    await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.OWNER)
    log.info("oidc.signed_up", user_id=str(user.id), issuer=identity.issuer)
    return user


async def _insert(session: AsyncSession, user: User, identity: Identity) -> OidcIdentity | None:
    """The identity's row of this user; None when it is another's, or another is in its place."""
    made = insert(OidcIdentity).values(
        id=new_id(),
        user_id=user.id,
        issuer=identity.issuer,
        subject=identity.subject,
        email=identity.email,
        last_login_at=func.clock_timestamp(),
    )
    await session.execute(made.on_conflict_do_nothing())
    return await session.scalar(
        select(OidcIdentity).where(
            OidcIdentity.issuer == identity.issuer,
            OidcIdentity.subject == identity.subject,
            OidcIdentity.user_id == user.id,
        )
    )


async def _logged_in(session: AsyncSession, found: OidcIdentity, identity: Identity) -> None:
    found.email = identity.email
    found.last_login_at = await session.scalar(select(func.clock_timestamp()))
    await session.flush()


def _require_domain(identity: Identity, domains: Collection[str]) -> None:
    """Raises: Forbidden unless the identity's verified address is of one of `domains`, where there are any."""
    if not domains:
        return
    domain = (identity.email or "").rpartition("@")[2].lower()
    if not identity.email_verified or domain not in domains:
        raise Forbidden(
            f"this login is for people with a verified address at {', '.join(sorted(domains))}; yours is at {domain!r}"
        )


def _name(identity: Identity, email: str) -> str:
    """How the person is called: what the provider says, if that is a name, else the address's first part."""
    try:
        return clean_name((identity.name or "")[:NAME_CHARACTERS_MAX], param="name")
    except InvalidRequest:
        return email.partition("@")[0]
