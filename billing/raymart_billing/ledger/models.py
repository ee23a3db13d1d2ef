"""Tables of the ledger, for reading. They are written by the SQL functions of migration 0002 and by nothing else."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_core.money import Asset
from raymart_marketplace.db.base import Base, text_enum


class AccountKind(StrEnum):
    """The chart of accounts. Every account is credit-normal: its balance is credits - debits."""

    CUSTOMER_BALANCE = "customer_balance"
    """What an organization has paid or was granted and has not used; a debt of the platform. May not overdraw."""
    CUSTOMER_RECEIVABLE = "customer_receivable"
    """What an organization owes: a lost dispute or a correction that its balance did not cover. Zero or negative."""
    CUSTOMER_DISPUTE = "customer_dispute"
    """An organization's money under dispute with its bank, out of reach until the bank has decided."""
    USAGE_CLEARING = "usage_clearing"
    """Where an organization's usage passes through on its way to those who earn it. Zero after each statement."""
    PROVIDER_PAYABLE = "provider_payable"
    """What a provider has earned and was not paid; a debt of the platform. May not overdraw."""
    PROVIDER_RESERVE = "provider_reserve"
    """The holdback: earnings kept back until the trust in them has matured."""
    PAYOUT_CLEARING = "payout_clearing"
    """A provider's money on its way out: sent and not yet seen as final. An old non-zero balance is an alarm."""
    PLATFORM_FEE = "platform_fee"
    """The platform's revenue: its share of what customers pay."""
    PLATFORM_REVENUE = "platform_revenue"
    """The platform's other revenue: adjustments in its favour."""
    PLATFORM_REFUND = "platform_refund"
    """The expense of refunds and of corrections in a customer's or provider's favour."""
    PROMOTIONAL_CREDIT = "promotional_credit"
    """The expense of granted credit. Its balance is negative: it is where grants come from."""
    PLATFORM_LOSS = "platform_loss"
    """The expense of usage that neither a hold nor a balance covered, and of debts written off."""
    PAYMENT_COST = "payment_cost"
    """The expense of moving money: what card networks and chains keep."""
    EXTERNAL_CARD = "external_card"
    """Cash on the card rail. Negative by what came in and has not gone out: the mirror of the processor's account."""
    EXTERNAL_USDC = "external_usdc"
    """Cash on the Solana rail, in dollars; the mirror of the treasury."""
    USDC_SUSPENSE = "usdc_suspense"
    """USDC that arrived and is nobody's balance: nobody knows whose it is, it is held, or it is on its way back."""
    PLATFORM_CAPITAL = "platform_capital"
    """What the platform itself put into its treasury."""


PLATFORM_KINDS = frozenset({
    AccountKind.PLATFORM_FEE, AccountKind.PLATFORM_REVENUE, AccountKind.PLATFORM_REFUND, AccountKind.PROMOTIONAL_CREDIT,
    AccountKind.PLATFORM_LOSS, AccountKind.PAYMENT_COST, AccountKind.EXTERNAL_CARD, AccountKind.EXTERNAL_USDC,
    AccountKind.USDC_SUSPENSE, AccountKind.PLATFORM_CAPITAL,
})  # fmt: skip
"""Accounts without an owner: one of each."""
OVERDRAWN_BY_NATURE = frozenset({
    AccountKind.CUSTOMER_RECEIVABLE, AccountKind.PLATFORM_REFUND, AccountKind.PROMOTIONAL_CREDIT,
    AccountKind.PLATFORM_LOSS, AccountKind.PAYMENT_COST, AccountKind.EXTERNAL_CARD, AccountKind.EXTERNAL_USDC,
})  # fmt: skip
"""Expenses of the platform, debts to it, and cash: the only accounts that may owe."""


class TransferCode(StrEnum):
    """Why money moved. Each code has one debit kind and one credit kind; the database refuses others."""

    CREDIT_GRANT = "credit_grant"
    """An administrator or a rule gave credit. promotional_credit -> customer_balance."""
    CREDIT_EXPIRED = "credit_expired"
    """What was left of a grant at its end. customer_balance -> promotional_credit."""
    USAGE_HOLD = "usage_hold"
    """A request's upper bound, or a gateway's lease, reserved before dispatch. Pending, customer_balance -> usage_clearing."""
    USAGE_CHARGE = "usage_charge"
    """What requests used, from their hold or lease or else from the balance. customer_balance -> usage_clearing."""
    USAGE_SHORTFALL = "usage_shortfall"
    """The same where neither hold nor balance covered it. platform_loss -> usage_clearing."""
    USAGE_EARNING = "usage_earning"
    """The provider's part of a usage. usage_clearing -> provider_payable."""
    USAGE_FEE = "usage_fee"
    """The platform's part of a usage. usage_clearing -> platform_fee."""
    HOLD_RELEASED = "hold_released"
    """A hold given back because nothing was delivered, or a lease that was returned. Voids a usage_hold."""
    HOLD_EXPIRED = "hold_expired"
    """A hold given back by the sweeper because its time was over. Voids a usage_hold."""
    REFUND = "refund"
    """Money back for a request that was not what was sold. platform_refund -> customer_balance."""
    REFUND_CLAWBACK = "refund_clawback"
    """The provider's part of a refund that was the provider's fault. provider_payable -> platform_refund."""
    REFUND_FEE = "refund_fee"
    """The platform's part of a refund. platform_fee -> platform_refund."""
    ADJUSTMENT_CREDIT = "adjustment_credit"
    """A correction in a customer's favour, by an administrator with a reason. platform_refund -> customer_balance."""
    ADJUSTMENT_DEBIT = "adjustment_debit"
    """A correction against a customer. customer_balance -> platform_revenue."""
    DEPOSIT_CARD = "deposit_card"
    """A top-up by card. external_card -> customer_balance."""
    DEPOSIT_USDC = "deposit_usdc"
    """A top-up in USDC. external_usdc -> customer_balance."""
    DEPOSIT_UNATTRIBUTED = "deposit_unattributed"
    """USDC arrived, and nobody knows whose it is, or it is held. external_usdc -> usdc_suspense."""
    DEPOSIT_ASSIGNED = "deposit_assigned"
    """It was told whose it is, or a refund of it could not land. usdc_suspense -> customer_balance."""
    DEPOSIT_WITHDRAWN = "deposit_withdrawn"
    """A top-up in USDC leaves the balance, to be paid back. customer_balance -> usdc_suspense."""
    DEPOSIT_USDC_REFUND = "deposit_usdc_refund"
    """USDC that was paid back is final on the chain. usdc_suspense -> external_usdc."""
    TREASURY_FUNDING = "treasury_funding"
    """USDC that arrived is the platform's own, for its treasury. usdc_suspense -> platform_capital."""
    TREASURY_WITHDRAWN = "treasury_withdrawn"
    """USDC that the platform took out of its treasury again. platform_capital -> external_usdc."""
    DEPOSIT_REFUND = "deposit_refund"
    """A top-up by card that was paid back. customer_balance -> external_card."""
    PAYMENT_FEE = "payment_fee"
    """What a rail kept of a deposit or payout. payment_cost -> external_card."""
    DISPUTE_OPENED = "dispute_opened"
    """A bank took a deposit back for the time being. customer_balance -> customer_dispute."""
    DISPUTE_SHORTFALL = "dispute_shortfall"
    """The part of it that was spent already: the customer owes it. customer_receivable -> customer_dispute."""
    DISPUTE_WON = "dispute_won"
    """The bank decided for us. customer_dispute -> customer_balance."""
    DISPUTE_LOST = "dispute_lost"
    """The bank decided for the customer: the money is gone. customer_dispute -> external_card."""
    RECEIVABLE_SETTLED = "receivable_settled"
    """A customer paid what it owed. customer_balance -> customer_receivable."""
    RECEIVABLE_WRITTEN_OFF = "receivable_written_off"
    """A debt nobody will pay. platform_loss -> customer_receivable."""
    RESERVE_KEPT = "reserve_kept"
    """Part of the earnings kept back. provider_payable -> provider_reserve."""
    RESERVE_RELEASED = "reserve_released"
    """The holdback has matured. provider_reserve -> provider_payable."""
    PAYOUT_SENT = "payout_sent"
    """A payout has left for the chain. provider_payable -> payout_clearing."""
    PAYOUT_SETTLED = "payout_settled"
    """It is final on the chain. payout_clearing -> external_usdc."""
    PAYOUT_RETURNED = "payout_returned"
    """It can never land. payout_clearing -> provider_payable."""
    REVERSAL = "reversal"
    """The mirror of an earlier transfer that was a mistake: its accounts swapped, its amount, `reverses_id` naming it."""


class TransferState(StrEnum):
    """What a transfer does to its accounts. Never updated: a hold is resolved by another row that names it."""

    PENDING = "pending"
    """Reserves the amount (a hold), until another row posts or voids it."""
    POSTED = "posted"
    """Moves the amount; with `pending_id`, at most the amount of that hold, whose rest is given back."""
    VOIDED = "voided"
    """Gives back the hold `pending_id`."""


def _listed(kinds: frozenset[AccountKind]) -> str:
    """`kinds` as a list of SQL literals, in the chart's order."""
    return ", ".join(f"'{kind.value}'" for kind in AccountKind if kind in kinds)


class LedgerAccount(Base):
    """A pot of money. Balances are kept by the trigger on `transfer`; a direct UPDATE is refused."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "asset", postgresql_nulls_not_distinct=True),
        CheckConstraint(
            f"(owner_id is null) = (kind in ({_listed(PLATFORM_KINDS)}))",
            name="owner_by_kind",
        ),
        CheckConstraint(
            f"may_overdraw = (kind in ({_listed(OVERDRAWN_BY_NATURE)}))", name="overdraft_by_kind"
        ),
        CheckConstraint(
            "debits_posted >= 0 and credits_posted >= 0 and debits_pending >= 0 and credits_pending >= 0",
            name="not_negative",
        ),
        CheckConstraint(
            "may_overdraw or debits_posted + debits_pending <= credits_posted", name="no_overdraft"
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[AccountKind] = mapped_column(text_enum(AccountKind))
    owner_id: Mapped[UUID | None]
    """Organization or provider, by `kind`; none for the platform's own."""
    asset: Mapped[Asset] = mapped_column(text_enum(Asset))
    may_overdraw: Mapped[bool]
    debits_posted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    credits_posted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    debits_pending: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Held: reserved and not yet moved."""
    credits_pending: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Transfer(Base):
    """One movement of money, immutable. `id` orders the transfers of an account as they were applied."""

    __tablename__ = "transfer"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("(state = 'pending') = (expires_at is not null)", name="pending_expires"),
        CheckConstraint("state <> 'pending' or pending_id is null", name="pending_is_first"),
        CheckConstraint("state <> 'voided' or pending_id is not null", name="void_has_hold"),
        CheckConstraint(
            "(code = 'reversal') = (reverses_id is not null)", name="reversal_names_its_transfer"
        ),
        CheckConstraint("code <> 'reversal' or reason is not null", name="reversal_has_reason"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
        Index(
            "uq_transfer_pending_id",
            "pending_id",
            unique=True,
            postgresql_where=text("pending_id is not null"),
        ),
        Index(
            "uq_transfer_reverses_id",
            "reverses_id",
            unique=True,
            postgresql_where=text("reverses_id is not null"),
        ),
        Index("ix_transfer_debit_account_id_id", "debit_account_id", "id"),
        Index("ix_transfer_credit_account_id_id", "credit_account_id", "id"),
        Index("ix_transfer_xact_id_id", "xact_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    """Idempotency key: "grant:<caller's key>", "hold:<request>", "usage:<request>:<part>"."""
    debit_account_id: Mapped[int] = mapped_column(BigInteger)
    credit_account_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
    """Smallest units of the accounts' asset."""
    code: Mapped[TransferCode] = mapped_column(text_enum(TransferCode))
    state: Mapped[TransferState] = mapped_column(text_enum(TransferState))
    pending_id: Mapped[int | None] = mapped_column(BigInteger)
    """The hold that this transfer posts or voids."""
    expires_at: Mapped[datetime | None]
    """When the sweeper may void this hold."""
    actor_id: Mapped[UUID | None]
    """The user who ordered it; none where a rule of the platform did."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    xact_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("((pg_current_xact_id())::text)::bigint")
    )
    """The transaction that wrote it. One below the oldest running transaction is decided for good."""
    reverses_id: Mapped[int | None] = mapped_column(BigInteger)
    """The transfer that this reversal undoes."""
    reason: Mapped[str | None]
    """Why a person corrected money."""


class OpenHold(Base):
    """A hold that is neither posted nor voided: the sweeper's index, kept by the trigger on `transfer`."""

    __tablename__ = "open_hold"

    transfer_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    expires_at: Mapped[datetime] = mapped_column(index=True)
