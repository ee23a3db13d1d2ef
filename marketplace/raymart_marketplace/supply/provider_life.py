"""The life of a provider: it applies, is reached and has a wallet, is approved; it may be suspended, and closed.

    applied -> active -> suspended -> (what it was);   closed at the end

`TRANSITIONS` is the whole of the rule, `change` the one way by which `provider.state` changes, and each change leaves a row
in `provider_event`. A contact is verified by a token in a mail to it, good once and for a day; the newest address counts.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.account_mail import MailTokens, hash_mail_token
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.audit import Actor
from raymart_marketplace.supply.life_models import ProviderContact, ProviderEvent, ProviderEventKind
from raymart_marketplace.supply.models import Provider, ProviderState
from raymart_marketplace.supply.node_life import REASON_CHARACTERS_MAX, who

log = structlog.get_logger()

CONTACT_TTL = timedelta(days=1)
CONTACTS_PER_DAY_MAX = 5
"""Mails that one provider may have sent, whatever the addresses."""
ABOUT_CHARACTERS_MAX = 2_000
WEBSITE_CHARACTERS_MAX = 300
_TOKEN = re.compile(r"rmm_[A-Za-z0-9_-]{43}", re.ASCII)
_STALE = "this link is wrong, used or expired, or a newer address was named; ask for another mail"

_K, _S = ProviderEventKind, ProviderState
ANY: Final = frozenset(ProviderState)
TRANSITIONS: Mapping[ProviderEventKind, Mapping[ProviderState, frozenset[ProviderState]]] = {
    _K.APPROVED: {_S.APPLIED: frozenset({_S.ACTIVE})},
    _K.DECLINED: {_S.APPLIED: frozenset({_S.CLOSED})},
    _K.SUSPENDED: {state: frozenset({_S.SUSPENDED}) for state in _S if state is not _S.SUSPENDED},
    # Back to what it was.
    _K.REINSTATED: {_S.SUSPENDED: ANY - {_S.SUSPENDED}},
    _K.CLOSED: {_S.APPLIED: frozenset({_S.CLOSED}), _S.ACTIVE: frozenset({_S.CLOSED})},
}
"""What may happen in which state, and the states it may lead to."""


async def change(
    session: AsyncSession,
    provider: Provider,
    event: ProviderEventKind,
    after: ProviderState,
    *,
    reason: str,
    by: Actor | None = None,
) -> Provider:
    """Let `event` lead the provider, whose row the caller has locked, to `after`. Raises: Conflict where it may not."""
    if after not in TRANSITIONS.get(event, {}).get(provider.state, frozenset()):
        raise Conflict(
            f"provider {provider.slug!r} is {provider.state.value}; {event.value} may not happen to it now"
        )
    await note(session, provider, event, after=after, reason=reason, by=by)
    log.info("provider.changed", provider=provider.slug, before=provider.state.value, after=after.value)
    provider.state = after
    await session.flush()
    return provider


async def note(
    session: AsyncSession,
    provider: Provider,
    event: ProviderEventKind,
    *,
    after: ProviderState | None = None,
    reason: str = "",
    by: Actor | None = None,
) -> None:
    """Write down what happened to the provider."""
    actor = by or who()
    session.add(
        ProviderEvent(
            provider_id=provider.id,
            event=event,
            from_state=provider.state,
            to_state=after or provider.state,
            reason=reason[:REASON_CHARACTERS_MAX],
            actor_kind=actor.kind,
            actor_id=actor.id,
        )
    )
    await session.flush()


async def describe(session: AsyncSession, provider: Provider, *, website: str, about: str) -> None:
    """Keep what the provider says of itself. Raises: InvalidRequest."""
    if len(about) > ABOUT_CHARACTERS_MAX or "\0" in about:
        raise InvalidRequest(
            f"at most {ABOUT_CHARACTERS_MAX} characters, and no NUL; this has {len(about)}", param="about"
        )
    provider.website, provider.about = _checked_website(website), about
    await session.flush()


async def name_contact(
    session: AsyncSession, *, provider_id: UUID, email: str, tokens: MailTokens
) -> ProviderContact:
    """Ask whoever reads mail at `email` to confirm that; the caller has the mail sent. Locks the provider's row.

    The confirmed contact stays until the new one is confirmed. Raises: InvalidRequest, NotFound, Conflict after
    `CONTACTS_PER_DAY_MAX` mails, or for a provider that is closed.
    """
    provider = await _locked(session, provider_id)
    if provider.state is ProviderState.CLOSED:
        raise Conflict(f"provider {provider.slug!r} is closed")
    address = normal_email(email)
    lately = ProviderContact.created_at > func.clock_timestamp() - timedelta(days=1)
    asked = await session.scalar(
        select(func.count()).where(ProviderContact.provider_id == provider_id, lately)
    )
    if (asked or 0) >= CONTACTS_PER_DAY_MAX:
        raise Conflict(f"{asked} mails were asked for within a day, the most there may be; wait for one")
    contact_id = new_id()
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    contact = ProviderContact(
        id=contact_id,
        provider_id=provider_id,
        email=address,
        token_hash=hash_mail_token(tokens.token(contact_id)),
        expires_at=now + CONTACT_TTL,
    )
    session.add(contact)
    await note(session, provider, ProviderEventKind.CONTACT_NAMED)
    return contact


async def verify_contact(session: AsyncSession, *, token: str) -> Provider:
    """The token of a mail came back: its address is the provider's contact. Of two at once one gets it. Raises: InvalidRequest."""
    if _TOKEN.fullmatch(token) is None:
        raise InvalidRequest(_STALE, param="token")
    named = await session.scalar(
        select(ProviderContact).where(ProviderContact.token_hash == hash_mail_token(token))
    )
    if named is None:
        raise InvalidRequest(_STALE, param="token")
    provider = await _locked(session, named.provider_id)
    newer = await session.scalar(
        select(ProviderContact.id)
        .where(ProviderContact.provider_id == provider.id, ProviderContact.id > named.id)
        .limit(1)
    )
    if newer is not None:
        raise InvalidRequest(_STALE, param="token")
    used = await session.scalar(
        update(ProviderContact)
        .where(
            ProviderContact.id == named.id,
            ProviderContact.verified_at.is_(None),
            ProviderContact.expires_at > func.clock_timestamp(),
        )
        .values(verified_at=func.clock_timestamp())
        .returning(ProviderContact.verified_at)
    )
    if used is None:
        raise InvalidRequest(_STALE, param="token")
    provider.contact_email, provider.contact_verified_at = named.email, used
    await note(session, provider, ProviderEventKind.CONTACT_VERIFIED)
    return provider


async def approve(session: AsyncSession, *, provider_id: UUID, has_wallet: bool, reason: str) -> Provider:
    """Let an applicant sell: somebody has looked at it, can reach it, and knows where its earnings go.

    `has_wallet` is whether a payout wallet is chosen. Locks the provider's row. Raises: NotFound, Conflict that names
    what is missing.
    """
    provider = await _locked(session, provider_id)
    missing = [
        *(["a verified contact"] if provider.contact_verified_at is None else []),
        *([] if has_wallet else ["a payout wallet"]),
    ]
    if missing and provider.state is ProviderState.APPLIED:
        raise Conflict(f"provider {provider.slug!r} lacks {' and '.join(missing)}; ask it for that first")
    return await change(
        session, provider, ProviderEventKind.APPROVED, ProviderState.ACTIVE, reason=_checked_reason(reason)
    )


async def decline(session: AsyncSession, *, provider_id: UUID, reason: str) -> Provider:
    """Turn an application down; the organization's people read why. Raises: InvalidRequest without a reason, NotFound, Conflict."""
    if not reason.strip():
        raise InvalidRequest("say why; the applicant reads it", param="reason")
    provider = await _locked(session, provider_id)
    return await change(
        session, provider, ProviderEventKind.DECLINED, ProviderState.CLOSED, reason=_checked_reason(reason)
    )


async def close(session: AsyncSession, *, provider_id: UUID, reason: str) -> Provider:
    """End the provider's business for good; what it earned is still paid. Raises: InvalidRequest, NotFound, Conflict."""
    provider = await _locked(session, provider_id)
    return await change(
        session, provider, ProviderEventKind.CLOSED, ProviderState.CLOSED, reason=_checked_reason(reason)
    )


async def _locked(session: AsyncSession, provider_id: UUID) -> Provider:
    provider = await session.get(
        Provider, provider_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if provider is None:
        raise NotFound(f"there is no provider {show(Prefix.PROVIDER, provider_id)!r}", param="provider_id")
    return provider


def _checked_reason(reason: str) -> str:
    """Raises: InvalidRequest."""
    if len(reason) > REASON_CHARACTERS_MAX or "\0" in reason:
        raise InvalidRequest(
            f"a reason has at most {REASON_CHARACTERS_MAX} characters, and no NUL; this has {len(reason)}",
            param="reason",
        )
    return reason


def _checked_website(website: str) -> str:
    """Raises: InvalidRequest unless it is empty or an https URL. It is shown, and never fetched."""
    if not website:
        return website
    try:
        parts = urlsplit(website)
    except ValueError:
        parts = urlsplit("")
    if len(website) > WEBSITE_CHARACTERS_MAX or parts.scheme != "https" or not parts.hostname:
        raise InvalidRequest(
            f"{website[:80]!r} is no https URL of at most {WEBSITE_CHARACTERS_MAX} characters",
            param="website",
        )
    return website
