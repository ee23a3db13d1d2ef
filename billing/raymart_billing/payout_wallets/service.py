"""Choosing the wallet that a provider's earnings go to, and taking a choice back. Takes a session, never commits.

A choice needs a proof of the wallet that is minutes old: the session alone, however it was got, signs nothing. Who calls
has asked for the permission `payouts.manage` and for a fresh second factor before. Every choice but a provider's first
cools down, during which nothing is paid and every owner has been told by mail.

Locks: the provider's row first, so that one provider's choices are made one after the other. What the rules here say,
the triggers of `payout_wallet` say again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payout_wallets.exchanges import exchange_of
from raymart_billing.payout_wallets.models import CheckState, EndReason, PayoutWallet, WalletWarning
from raymart_billing.payout_wallets.requests import Event, check_later, tell_later
from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts.siws import read_address
from raymart_marketplace.accounts.wallet_proofs import WalletProof
from raymart_marketplace.db.tenancy import unconfined
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.supply.models import Provider

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletRules:
    """How careful choices are. The database has a floor of 72 hours and a ceiling of an hour of its own."""

    cool_down: timedelta
    """From a change until it may be paid."""
    proof_fresh: timedelta
    """How old the proof of a wallet may be when it is chosen."""

    @classmethod
    def of(cls, settings: ControlSettings) -> "WalletRules":
        """Those of a deployment."""
        return cls(
            cool_down=timedelta(seconds=settings.payout_wallet_cool_down_s),
            proof_fresh=timedelta(seconds=settings.payout_wallet_proof_fresh_s),
        )


class WarningsNotAcknowledged(Conflict):
    """The wallet can be chosen once its warnings have been read; `warnings` are those that were not acknowledged."""

    def __init__(self, address: str, warnings: Sequence[WalletWarning]) -> None:
        said = " ".join(warning_in_words(each, address) for each in warnings)
        super().__init__(
            f"{said} If that is meant, choose it again with acknowledgedWarnings: "
            f"[{', '.join(each.name for each in warnings)}]",
            param="acknowledged_warnings",
        )
        self.warnings = tuple(warnings)


async def choose_payout_wallet(
    session: AsyncSession,
    *,
    provider_id: UUID,
    address: str,
    acknowledged: Collection[WalletWarning],
    chosen_by: UUID,
    rules: WalletRules,
) -> PayoutWallet:
    """Make `address` the provider's payout wallet, after its cool-down unless it is the first; a repeat changes nothing.

    Asks a worker to check it on the chain and to tell the owners. Locks the provider and the proof.
    Raises: InvalidRequest, NotFound, Conflict (no proof, or one too old), WarningsNotAcknowledged.
    """
    provider, now = await _lock_provider(session, provider_id)
    current = await current_wallet(session, provider_id)
    if current is not None and current.address == address:
        return current
    proof = await _fresh_proof(session, provider.organization_id, read_address(address), now, rules)
    warnings = await warnings_of(session, organization_id=provider.organization_id, address=address)
    unread = [warning for warning in warnings if warning not in acknowledged]
    if unread:
        raise WarningsNotAcknowledged(address, unread)
    if current is not None:
        current.ended_at, current.end_reason, current.ended_by = now, EndReason.REPLACED, chosen_by
        await session.flush()
    chosen = PayoutWallet(
        id=new_id(),
        organization_id=provider.organization_id,
        provider_id=provider_id,
        address=address,
        proof_id=proof.id,
        proven_at=proof.proven_at,
        chosen_by=chosen_by,
        is_first=False,  # The database says so where it is.
        payable_from=now + (rules.cool_down if await _was_ever_chosen(session, provider_id) else timedelta()),
        earlier_id=_established(current, now),
        warnings=[warning.value for warning in warnings],
        check_state=CheckState.UNCHECKED,
    )
    session.add(chosen)
    await session.flush()
    await session.refresh(chosen)
    async with unconfined(session):
        await check_later(session, chosen.id)
        await tell_later(session, chosen.id, Event.CHOSEN)
    log.info(
        "payout_wallet.chosen",
        provider_id=str(provider_id),
        wallet_id=str(chosen.id),
        is_first=chosen.is_first,
        user_id=str(chosen_by),
    )
    return chosen


async def cancel_payout_wallet(
    session: AsyncSession, *, provider_id: UUID, cancelled_by: UUID
) -> PayoutWallet | None:
    """Take a choice back within its cool-down; returns the wallet that counts again, None when there is none.

    That is the last one that had cooled down, unless its proof was withdrawn since. Locks the provider.
    Raises: NotFound, Conflict when nothing is cooling down.
    """
    _, now = await _lock_provider(session, provider_id)
    current = await current_wallet(session, provider_id)
    if current is None or current.payable_from <= now:
        raise Conflict(
            "no change of the payout wallet is cooling down; choose another wallet instead",
            param="provider_id",
        )
    current.ended_at, current.end_reason, current.ended_by = now, EndReason.CANCELLED, cancelled_by
    await session.flush()
    again = await _proven(session, current.earlier_id)
    if again is not None:
        again.ended_at = again.end_reason = again.ended_by = None
        await session.flush()
    async with unconfined(session):
        await tell_later(session, current.id, Event.CANCELLED)
    log.info("payout_wallet.cancelled", provider_id=str(provider_id), wallet_id=str(current.id))
    return again


async def tell_of_withdrawal(session: AsyncSession, proof_id: UUID) -> None:
    """Tell the owners if the end of a proof has ended their payout wallet; the database did that."""
    ended = await session.scalars(
        select(PayoutWallet.id).where(
            PayoutWallet.proof_id == proof_id, PayoutWallet.end_reason == EndReason.PROOF_WITHDRAWN
        )
    )
    wallet_ids = ended.all()
    async with unconfined(session):
        for wallet_id in wallet_ids:
            await tell_later(session, wallet_id, Event.PROOF_WITHDRAWN)


async def current_wallet(session: AsyncSession, provider_id: UUID) -> PayoutWallet | None:
    """The provider's choice that stands, payable or not."""
    return await session.scalar(
        select(PayoutWallet)
        .where(PayoutWallet.provider_id == provider_id, PayoutWallet.ended_at.is_(None))
        .execution_options(populate_existing=True)
    )


async def warnings_of(
    session: AsyncSession, *, organization_id: UUID, address: str
) -> Sequence[WalletWarning]:
    """What the organization must know of a wallet before it chooses it."""
    found = [WalletWarning.EXCHANGE] if exchange_of(address) is not None else []
    others = select(WalletProof.id).where(
        WalletProof.address == address,
        WalletProof.organization_id != organization_id,
        WalletProof.withdrawn_at.is_(None),
    )
    # Whether there is another, and nothing of it: a tenant sees no other's rows.
    async with unconfined(session):
        if await session.scalar(select(others.exists())):
            found.append(WalletWarning.SHARED)
    return found


def warning_in_words(warning: WalletWarning, address: str) -> str:
    """A sentence for who is to acknowledge it."""
    if warning is WalletWarning.SHARED:
        return f"{address} is proven by another organization too."
    return (
        f"{address} belongs to {exchange_of(address) or 'an exchange'}: what arrives at an exchange's own address may be"
        " credited to nobody."
    )


async def _lock_provider(session: AsyncSession, provider_id: UUID) -> tuple[Provider, datetime]:
    """The provider, its row locked, and the moment by the database's clock. Raises: NotFound."""
    row = (
        await session.execute(
            select(Provider, func.clock_timestamp())
            .where(Provider.id == provider_id)
            .with_for_update(key_share=True, of=Provider)
        )
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such provider", param="provider_id")
    provider, now = row.tuple()
    return provider, now


async def _fresh_proof(
    session: AsyncSession, organization_id: UUID, address: str, now: datetime, rules: WalletRules
) -> WalletProof:
    """The organization's live proof of the wallet, minutes old. Raises: Conflict."""
    proof = await session.scalar(
        select(WalletProof)
        .where(
            WalletProof.organization_id == organization_id,
            WalletProof.address == address,
            WalletProof.withdrawn_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
    minutes = int(rules.proof_fresh.total_seconds() // 60)
    step = f"prove it with createWalletChallenge and proveWallet, and choose it within {minutes} minutes"
    if proof is None:
        raise Conflict(f"the organization has not proven that it owns {address}; {step}", param="address")
    if now - proof.proven_at > rules.proof_fresh:
        raise Conflict(
            f"the proof of {address} is of {proof.proven_at:%d %b %Y, %H:%M} UTC; {step}", param="address"
        )
    return proof


async def _was_ever_chosen(session: AsyncSession, provider_id: UUID) -> bool:
    return bool(
        await session.scalar(select(select(PayoutWallet.id).filter_by(provider_id=provider_id).exists()))
    )


def _established(current: PayoutWallet | None, now: datetime) -> UUID | None:
    """The choice that a cancellation goes back to: never one that has not cooled down itself."""
    if current is None:
        return None
    return current.id if current.payable_from <= now else current.earlier_id


async def _proven(session: AsyncSession, wallet_id: UUID | None) -> PayoutWallet | None:
    """The earlier choice, if its proof stands."""
    if wallet_id is None:
        return None
    return await session.scalar(
        select(PayoutWallet)
        .join(WalletProof, WalletProof.id == PayoutWallet.proof_id)
        .where(
            PayoutWallet.id == wallet_id,
            PayoutWallet.end_reason == EndReason.REPLACED,
            WalletProof.withdrawn_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
