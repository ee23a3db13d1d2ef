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
    USAGE_CLEARING = "usage_clearing"
    """Where an organization's usage passes through on its way to those who earn it. Zero after each statement."""
    PROVIDER_PAYABLE = "provider_payable"
    """What a provider has earned and was not paid; a debt of the platform. May not overdraw."""
    PLATFORM_FEE = "platform_fee"
    """The platform's revenue: its share of what customers pay."""
    PROMOTIONAL_CREDIT = "promotional_credit"
    """The expense of granted credit. Its balance is negative: it is where grants come from."""
    PLATFORM_LOSS = "platform_loss"
    """The expense of usage that neither a hold nor a balance covered. Its balance is negative."""


OVERDRAWN_BY_NATURE = frozenset({AccountKind.PROMOTIONAL_CREDIT, AccountKind.PLATFORM_LOSS})
"""Expenses of the platform, the only accounts that may owe."""


class TransferCode(StrEnum):
    """Why money moved."""

    CREDIT_GRANT = "credit_grant"
    """An administrator gave credit. promotional_credit -> customer_balance."""
    USAGE_HOLD = "usage_hold"
    """A request's upper bound, reserved before dispatch. Pending, customer_balance -> usage_clearing."""
    USAGE_CHARGE = "usage_charge"
    """What a request used, from its hold or else from the balance. customer_balance -> usage_clearing."""
    USAGE_SHORTFALL = "usage_shortfall"
    """The same where neither hold nor balance covered it. platform_loss -> usage_clearing."""
    USAGE_EARNING = "usage_earning"
    """The provider's part of a usage. usage_clearing -> provider_payable."""
    USAGE_FEE = "usage_fee"
    """The platform's part of a usage. usage_clearing -> platform_fee."""
    HOLD_RELEASED = "hold_released"
    """A hold given back because nothing was delivered. Voids a usage_hold."""
    HOLD_EXPIRED = "hold_expired"
    """A hold given back by the sweeper because its time was over. Voids a usage_hold."""


class TransferState(StrEnum):
    """What a transfer does to its accounts. Never updated: a hold is resolved by another row that names it."""

    PENDING = "pending"
    """Reserves the amount (a hold), until another row posts or voids it."""
    POSTED = "posted"
    """Moves the amount; with `pending_id`, at most the amount of that hold, whose rest is given back."""
    VOIDED = "voided"
    """Gives back the hold `pending_id`."""


class LedgerAccount(Base):
    """A pot of money. Balances are kept by the trigger on `transfer`; a direct UPDATE is refused."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "asset", postgresql_nulls_not_distinct=True),
        CheckConstraint(
            "(owner_id is null) = (kind in ('platform_fee', 'promotional_credit', 'platform_loss'))",
            name="owner_by_kind",
        ),
        CheckConstraint(
            "may_overdraw = (kind in ('promotional_credit', 'platform_loss'))", name="overdraft_by_kind"
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
        Index(
            "uq_transfer_pending_id",
            "pending_id",
            unique=True,
            postgresql_where=text("pending_id is not null"),
        ),
        Index("ix_transfer_debit_account_id_id", "debit_account_id", "id"),
        Index("ix_transfer_credit_account_id_id", "credit_account_id", "id"),
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


class OpenHold(Base):
    """A hold that is neither posted nor voided: the sweeper's index, kept by the trigger on `transfer`."""

    __tablename__ = "open_hold"

    transfer_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    expires_at: Mapped[datetime] = mapped_column(index=True)
