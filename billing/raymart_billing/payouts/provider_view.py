"""What a provider is shown of its payouts, in its own words: states, sums of an epoch, and why something was not paid.

The rows of batches and parts are the marketplace's; a provider sees its items and what follows for them. Pure, but for
`next_payout`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, LedgerAccount
from raymart_billing.payout_wallets.payable import NotPayable, payable_wallet
from raymart_billing.payouts.models import (
    BatchState,
    Earning,
    Epoch,
    ItemState,
    PartState,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
    UnpaidReason,
)
from raymart_billing.payouts.policy_models import PayoutPolicy
from raymart_core.money import Asset
from raymart_marketplace.oversight.suspension import withheld_providers

NANO_PER_MICRO = 1_000
"""A micro-USDC is a thousand nano-USD."""


class PaymentState(StrEnum):
    """Where a provider's payment stands."""

    PLANNED = "planned"
    """In a batch that waits for the marketplace's people."""
    APPROVED = "approved"
    SENT = "sent"
    """Signed, and perhaps on the chain, but not final."""
    PAID = "paid"
    """Final on the chain."""
    HELD = "held"
    """Stopped until a person has looked at it."""
    REFUSED = "refused"
    """The wallet's account refused it; it is kept for the provider until that is settled."""
    RETURNED = "returned"
    """Back on the provider's balance; the next payout pays it."""


UNPAID_IN_WORDS: Mapping[UnpaidReason, str] = MappingProxyType(
    {
        UnpaidReason.NO_WALLET: "no payout wallet was chosen; prove a wallet and choose it, and it is paid with the next epoch",
        UnpaidReason.WALLET_COOLING_DOWN: "the payout wallet was changed lately; it is paid once the cool-down is over",
        UnpaidReason.WALLET_UNUSABLE: "the payout wallet cannot be paid; `payoutWallet` says why",
        UnpaidReason.SUSPENDED: "nothing is paid while the provider is suspended",
        UnpaidReason.FLAGGED_USAGE: "usage that was paid for is under review",
        UnpaidReason.BELOW_MINIMUM: "it was less than the least that is paid out, and is carried over",
        UnpaidReason.BALANCE_OWED: "refunds have taken all there was",
    }
)
"""Why an epoch's earnings are in no payout, and what to do."""
_UNSENT = frozenset({PartState.PLANNED, PartState.WAITING_FUNDS})


def payment_state(item: PayoutItem, batch: PayoutBatch, part: PayoutPart | None) -> PaymentState:
    """Where the payment of `item` stands, by its batch and by the part that sends it."""
    match item.state:
        case ItemState.PAID:
            return PaymentState.PAID
        case ItemState.QUARANTINED:
            return PaymentState.REFUSED
        case ItemState.RETURNED:
            return PaymentState.RETURNED
    if batch.state is BatchState.HELD or (
        part is not None and part.state in {PartState.HELD, PartState.FAILED}
    ):
        return PaymentState.HELD
    if batch.state in {BatchState.PLANNED, BatchState.REVIEWED}:
        return PaymentState.PLANNED
    return PaymentState.APPROVED if part is None or part.state in _UNSENT else PaymentState.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSums:
    """One provider's epoch. Amounts are nano-USD."""

    payable: int
    """What was left of the earnings after refunds and holdback; below zero where refunds took more."""
    paid: int
    """What the epoch's payout took, in whole micro-USDC; 0 without one."""

    @property
    def carried_in(self) -> int:
        """The part of it that earlier epochs and matured holdbacks had left."""
        return max(self.paid - self.payable, 0)

    @property
    def carried_over(self) -> int:
        """What is left for the next payout, if only of this epoch: less than a micro-USDC, or all that was not paid."""
        return max(self.payable - self.paid, 0)


def epoch_sums(earning: Earning, item: PayoutItem | None) -> EpochSums:
    """The sums of an epoch, with the item that pays it if there is one."""
    return EpochSums(
        payable=earning.gross_nano_usd - earning.clawback_nano_usd - earning.holdback_nano_usd,
        paid=0 if item is None else item.amount_micro_usdc * NANO_PER_MICRO,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPayout:
    """What the next payout would be if nothing changed. Amounts are micro-USDC."""

    at_most: int
    """What lies on the account now, before the holdback of the running epoch."""
    minimum: int
    epoch_ends_at: datetime | None
    """When the running epoch is over, after which it is planned and approved; None before the first one has ended."""
    blocked: str | None
    """Why nothing would be paid, with the next step; None when it would."""


async def next_payout(session: AsyncSession, provider_id: UUID) -> NextPayout:
    """An estimate, with the process's own rights. Reads only."""
    policy = (
        await session.scalars(select(PayoutPolicy).order_by(PayoutPolicy.version.desc()).limit(1))
    ).one()
    payable = await session.scalar(
        select(
            LedgerAccount.credits_posted - LedgerAccount.debits_posted - LedgerAccount.debits_pending
        ).where(
            LedgerAccount.kind == AccountKind.PROVIDER_PAYABLE,
            LedgerAccount.owner_id == provider_id,
            LedgerAccount.asset == Asset.USD,
        )
    )
    ended = await session.scalar(select(func.max(Epoch.ends_at)))
    at_most = max(payable or 0, 0) // NANO_PER_MICRO
    return NextPayout(
        at_most=at_most,
        minimum=policy.minimum_micro_usdc,
        epoch_ends_at=None if ended is None else ended + timedelta(hours=policy.epoch_hours),
        blocked=await _blocked(session, provider_id, at_most=at_most, minimum=policy.minimum_micro_usdc),
    )


async def _blocked(session: AsyncSession, provider_id: UUID, *, at_most: int, minimum: int) -> str | None:
    """What stands in the way, the gravest first."""
    if provider_id in await withheld_providers(session, [provider_id]):
        return UNPAID_IN_WORDS[UnpaidReason.SUSPENDED]
    wallet = await payable_wallet(session, provider_id)
    if isinstance(wallet, NotPayable):
        return wallet.in_words()
    if at_most < minimum:
        return UNPAID_IN_WORDS[UnpaidReason.BELOW_MINIMUM]
    return None
