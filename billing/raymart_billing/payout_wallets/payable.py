"""Which wallet a provider's earnings may go to at this moment, or why none. Reads only.

Ask when a payout is planned and again before it is signed: between the two a provider may have changed its wallet.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payout_wallets.models import CheckState, EndReason, PayoutWallet, WalletWarning
from raymart_marketplace.accounts.wallet_proofs import WalletProof


class NoWallet(StrEnum):
    """Why a provider cannot be paid."""

    NONE_CHOSEN = "none_chosen"
    COOLING_DOWN = "cooling_down"
    """It was changed less than 72 hours ago. Nothing goes to the wallet before it either: it may have been lost."""
    PROOF_WITHDRAWN = "proof_withdrawn"
    UNCHECKED = "unchecked"
    """The chain was not asked yet what the address is."""
    CHECKS_FAILED = "checks_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayableWallet:
    """A wallet that may be paid now."""

    wallet_id: UUID
    """The choice, a row of `payout_wallet`."""
    address: str
    chosen_at: datetime
    payable_from: datetime
    warnings: Sequence[WalletWarning]
    """What the provider acknowledged; for the eyes of who reviews a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPayable:
    """Why nothing may be paid."""

    reason: NoWallet
    until: datetime | None = None
    """When a cool-down is over."""
    finding: str | None = None
    """What a check found."""

    def in_words(self) -> str:
        """For the provider's people: what is wrong, and the next step."""
        match self.reason:
            case NoWallet.NONE_CHOSEN:
                return "no payout wallet is chosen; prove a wallet and choose it"
            case NoWallet.COOLING_DOWN:
                assert self.until is not None, "a cool-down ends"
                return f"the payout wallet was changed; nothing is paid before {self.until.astimezone(UTC):%d %b %Y, %H:%M} UTC"
            case NoWallet.PROOF_WITHDRAWN:
                return "the proof of the payout wallet was withdrawn; prove a wallet and choose it"
            case NoWallet.UNCHECKED:
                return "the payout wallet was not checked on the chain yet; this takes a minute while the chain can be asked"
            case NoWallet.CHECKS_FAILED:
                return f"the payout wallet cannot be paid: {self.finding}; choose another one"


async def payable_wallet(session: AsyncSession, provider_id: UUID) -> PayableWallet | NotPayable:
    """The provider's wallet, if it may be paid now, or the reason why not."""
    return (await payable_wallets(session, [provider_id]))[provider_id]


async def payable_wallets(
    session: AsyncSession, provider_ids: Collection[UUID]
) -> Mapping[UUID, PayableWallet | NotPayable]:
    """The same for each of the providers, in one statement."""
    # The current choice of each provider, else its latest.
    statement = (
        select(PayoutWallet, func.clock_timestamp(), _is_proven())
        .where(PayoutWallet.provider_id.in_(provider_ids))
        .distinct(PayoutWallet.provider_id)
        .order_by(
            PayoutWallet.provider_id,
            PayoutWallet.ended_at.is_not(None),
            PayoutWallet.created_at.desc(),
            PayoutWallet.id.desc(),
        )
        .execution_options(populate_existing=True)
    )
    found: dict[UUID, PayableWallet | NotPayable] = dict.fromkeys(
        provider_ids, NotPayable(reason=NoWallet.NONE_CHOSEN)
    )
    for wallet, now, is_proven in (await session.execute(statement)).all():
        found[wallet.provider_id] = judge(wallet, now=now, is_proven=is_proven)
    return found


def judge(wallet: PayoutWallet, *, now: datetime, is_proven: bool) -> PayableWallet | NotPayable:
    """What `wallet`, a provider's current choice or else its latest, means for a payout at `now`. Pure."""
    if wallet.ended_at is not None:
        withdrawn = wallet.end_reason is EndReason.PROOF_WITHDRAWN
        return NotPayable(reason=NoWallet.PROOF_WITHDRAWN if withdrawn else NoWallet.NONE_CHOSEN)
    # The database ends a choice with its proof; asked again here because money follows.
    if not is_proven:
        return NotPayable(reason=NoWallet.PROOF_WITHDRAWN)
    if wallet.check_state is CheckState.FAILED:
        return NotPayable(reason=NoWallet.CHECKS_FAILED, finding=wallet.check_finding)
    if now < wallet.payable_from:
        return NotPayable(reason=NoWallet.COOLING_DOWN, until=wallet.payable_from)
    if wallet.check_state is CheckState.UNCHECKED:
        return NotPayable(reason=NoWallet.UNCHECKED)
    return PayableWallet(
        wallet_id=wallet.id,
        address=wallet.address,
        chosen_at=wallet.created_at,
        payable_from=wallet.payable_from,
        warnings=tuple(WalletWarning(each) for each in wallet.warnings),
    )


def _is_proven() -> ColumnElement[bool]:
    proof = select(WalletProof.id).where(
        WalletProof.id == PayoutWallet.proof_id, WalletProof.withdrawn_at.is_(None)
    )
    return proof.exists()
