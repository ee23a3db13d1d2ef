"""Tables of payouts. The triggers of the migrations guard them: what was approved never changes, nothing is deleted.

A batch is what people review and approve, a part of it is what one transaction pays, an item is one payee, an attempt is
one signed transaction of a part.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum

REASON_CHARACTERS_MAX = 500
_ADDRESS = "{0} ~ '^[1-9A-HJ-NP-Za-km-z]{{32,44}}$'"
"""Base58 of 32 bytes."""


class UnpaidReason(StrEnum):
    """Why a provider's earnings of an epoch are not in a batch."""

    NO_WALLET = "no_wallet"
    WALLET_COOLING_DOWN = "wallet_cooling_down"
    """The wallet was changed lately."""
    WALLET_UNUSABLE = "wallet_unusable"
    """The wallet cannot be paid: frozen, closed, or no wallet at all."""
    SUSPENDED = "suspended"
    FLAGGED_USAGE = "flagged_usage"
    """Usage that was paid for is under review."""
    BELOW_MINIMUM = "below_minimum"
    BALANCE_OWED = "balance_owed"
    """Refunds have taken all there was."""


class BatchKind(StrEnum):
    """What a batch pays."""

    EARNINGS = "earnings"
    """Providers, for an epoch and what was carried over from earlier ones."""
    DEPOSIT_REFUND = "deposit_refund"
    """A top-up in USDC, back to who paid it."""


class BatchState(StrEnum):
    """How far a batch has come."""

    PLANNED = "planned"
    """Waits for people."""
    REVIEWED = "reviewed"
    """Somebody approved it, and it needs one more."""
    APPROVED = "approved"
    """Nothing of it changes any more; it may be signed."""
    SENDING = "sending"
    """Some part of it was signed."""
    FINALIZED = "finalized"
    """Every part is final on the chain."""
    HELD = "held"
    """Stopped by a person, until they release or cancel it."""
    CANCELLED = "cancelled"
    """Given up before anything of it was signed; the money went back."""


class PartState(StrEnum):
    """How far one transaction's worth of a batch has come."""

    PLANNED = "planned"
    SIGNED = "signed"
    """An attempt's bytes are committed, and may be broadcast."""
    SUBMITTED = "submitted"
    FINALIZED = "finalized"
    FAILED = "failed"
    """Can never land as it is."""
    HELD = "held"
    """Waits for a person."""
    WAITING_FUNDS = "waiting_funds"
    """The treasury cannot cover it, in USDC or in SOL for fees."""


class ItemState(StrEnum):
    """What became of one payee's money."""

    PLANNED = "planned"
    PAID = "paid"
    QUARANTINED = "quarantined"
    """Kept out of its part, because its account refuses it."""
    RETURNED = "returned"
    """Given back to the payee's balance; it can never land."""


class AttemptState(StrEnum):
    """What became of one signed transaction."""

    LIVE = "live"
    """May still land."""
    LANDED = "landed"
    FAILED = "failed"
    """Landed with an error: nothing was paid."""
    EXPIRED = "expired"
    """Its block height has passed without it."""


class Purpose(StrEnum):
    """What an attempt is for."""

    PAY = "pay"
    """Creates the marker and pays every item of the part."""
    BURN = "burn"
    """Creates the marker and pays nobody: when it has landed, no attempt of this part can pay any more."""
    OPEN = "open"
    """Opens missing token accounts of payees. No marker: a second landing opens nothing and costs its fee."""


class Epoch(Row):
    """A span of time whose earnings are paid together. A row is made when it is over."""

    __tablename__ = "epoch"
    __table_args__ = (
        CheckConstraint("number > 0", name="number_positive"),
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        # The operator class is named so that metadata and catalog say the same.
        ExcludeConstraint(
            (text("tstzrange(starts_at, ends_at)"), "&&"), name="ex_epoch_no_overlap", using="gist"
        ),
    )

    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    """From 1, without gaps."""
    starts_at: Mapped[datetime]
    """The end of the epoch before."""
    ends_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    """When the last provider's earnings of it were drawn."""
    planned_at: Mapped[datetime | None]
    """When every provider that could be paid for it was in a batch, for the first time."""


class Earning(Row):
    """What one provider earned in one epoch: the transfers of its payable account after one, up to another."""

    __tablename__ = "earning"
    __table_args__ = (
        UniqueConstraint("provider_id", "epoch_id"),
        CheckConstraint(
            "after_transfer_id >= 0 and upto_transfer_id >= after_transfer_id", name="range_goes_on"
        ),
        CheckConstraint(
            "gross_nano_usd >= 0 and clawback_nano_usd >= 0 and holdback_nano_usd >= 0", name="not_negative"
        ),
        CheckConstraint(
            "holdback_nano_usd <= greatest(gross_nano_usd - clawback_nano_usd, 0)",
            name="holdback_of_earnings",
        ),
        CheckConstraint(
            "(holdback_nano_usd = 0) = (matures_at is null) and (released_at is null or matures_at is not null)",
            name="holdback_matures",
        ),
        Index("ix_earning_epoch_id", "epoch_id"),
        Index(
            "ix_earning_maturing",
            "matures_at",
            postgresql_where=text("matures_at is not null and released_at is null"),
        ),
    )

    epoch_id: Mapped[UUID] = mapped_column(ForeignKey("epoch.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    after_transfer_id: Mapped[int] = mapped_column(BigInteger)
    """The last transfer of the earning before; 0 for the first."""
    upto_transfer_id: Mapped[int] = mapped_column(BigInteger)
    gross_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """The provider's part of usage in the range."""
    clawback_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What refunds and reversals took of it."""
    holdback_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What was moved to the reserve."""
    matures_at: Mapped[datetime | None]
    """When the holdback may be released; None where nothing was kept."""
    released_at: Mapped[datetime | None]
    unpaid_reason: Mapped[UnpaidReason | None] = mapped_column(text_enum(UnpaidReason))
    """Why the last planning left this provider out; None where it was not, or was not planned yet."""


class PayoutBatch(Row):
    """What people review and approve: payees with their amounts."""

    __tablename__ = "payout_batch"
    __table_args__ = (
        CheckConstraint("(kind = 'earnings') = (epoch_id is not null)", name="earnings_have_epoch"),
        CheckConstraint(_ADDRESS.format("mint"), name="mint_is_address"),
        CheckConstraint("total_micro_usdc > 0 and payees > 0", name="pays_somebody"),
        CheckConstraint("(state = 'held') = (hold_reason is not null)", name="held_has_reason"),
        CheckConstraint(
            f"length(hold_reason) between 1 and {REASON_CHARACTERS_MAX}", name="hold_reason_length"
        ),
        CheckConstraint(
            "(state not in ('approved', 'sending', 'finalized') or approved_at is not null)"
            " and (state not in ('planned', 'reviewed') or approved_at is null)",
            name="approved_has_time",
        ),
        CheckConstraint(
            "(state in ('finalized', 'cancelled')) = (finished_at is not null)", name="finished_has_time"
        ),
        Index("ix_payout_batch_state_id", "state", "id"),
        Index("ix_payout_batch_epoch_id", "epoch_id"),
        Index("ix_payout_batch_approved_at", "approved_at", postgresql_where=text("approved_at is not null")),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    """What people call it by."""
    kind: Mapped[BatchKind] = mapped_column(text_enum(BatchKind))
    epoch_id: Mapped[UUID | None] = mapped_column(ForeignKey("epoch.id", ondelete="RESTRICT"))
    mint: Mapped[str]
    """Of the token that is paid."""
    state: Mapped[BatchState] = mapped_column(text_enum(BatchState), server_default=BatchState.PLANNED.value)
    total_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    payees: Mapped[int]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """Who planned it, and so may not approve it; None where the periodic did."""
    hold_reason: Mapped[str | None]
    split_from: Mapped[UUID | None] = mapped_column(ForeignKey("payout_batch.id", ondelete="RESTRICT"))
    approved_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class PayoutPart(Row):
    """What one transaction pays, with one marker account that lets it land once."""

    __tablename__ = "payout_part"
    __table_args__ = (
        UniqueConstraint("batch_id", "position"),
        # What items' foreign key refers to: a part pays items of its own batch only.
        UniqueConstraint("batch_id", "id"),
        CheckConstraint(
            "position >= 0 and generation >= 0 and attempts >= 0 and fence >= 0", name="counts_not_negative"
        ),
        CheckConstraint("total_micro_usdc > 0", name="total_positive"),
        CheckConstraint("fee_lamports >= 0 and slot >= 0", name="chain_not_negative"),
        CheckConstraint(_ADDRESS.format("marker"), name="marker_is_address"),
        CheckConstraint(
            f"length(state_reason) between 1 and {REASON_CHARACTERS_MAX}", name="state_reason_length"
        ),
        CheckConstraint("state <> 'finalized' or finalized_at is not null", name="finalized_has_time"),
        CheckConstraint(
            "marker_reclaimed_at is null or finalized_at is not null", name="reclaimed_after_final"
        ),
        CheckConstraint("attempts_released between 0 and attempts", name="attempts_released_were_made"),
        Index("ix_payout_part_held", "id", postgresql_where=text("state = 'held' and marker is not null")),
        Index(
            "ix_payout_part_marked",
            "finalized_at",
            postgresql_where=text("state = 'finalized' and marker_reclaimed_at is null"),
        ),
        Index(
            "ix_payout_part_open",
            "id",
            postgresql_where=text("state in ('planned', 'signed', 'submitted', 'waiting_funds')"),
        ),
        Index("ix_payout_part_signature", "signature", postgresql_where=text("signature is not null")),
    )

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("payout_batch.id", ondelete="RESTRICT"))
    position: Mapped[int]
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts up when the marker of the one before was taken by somebody else."""
    state: Mapped[PartState] = mapped_column(text_enum(PartState), server_default=PartState.PLANNED.value)
    state_reason: Mapped[str | None]
    total_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    marker: Mapped[str | None]
    """The marker account's address, for the present generation."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    """Signed with a marker."""
    attempts_released: Mapped[int] = mapped_column(server_default=text("0"))
    """Of them, those that a person had looked at when the part was last released: the cap counts the rest."""
    signature: Mapped[str | None]
    """Of the transaction that landed."""
    slot: Mapped[int | None] = mapped_column(BigInteger)
    fee_lamports: Mapped[int | None] = mapped_column(BigInteger)
    finalized_at: Mapped[datetime | None]
    marker_reclaimed_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    locked_until: Mapped[datetime | None]


class PayoutItem(Row):
    """One payee of a batch: a provider for an epoch, or the payer of a deposit."""

    __tablename__ = "payout_item"
    __table_args__ = (
        UniqueConstraint("batch_id", "position"),
        ForeignKeyConstraint(
            ["batch_id", "part_id"], ["payout_part.batch_id", "payout_part.id"], ondelete="RESTRICT"
        ),
        CheckConstraint("position >= 0", name="position_not_negative"),
        CheckConstraint("amount_micro_usdc > 0", name="amount_positive"),
        CheckConstraint("(provider_id is null) <> (deposit_id is null)", name="one_payee"),
        CheckConstraint("(provider_id is null) = (epoch_id is null)", name="provider_has_epoch"),
        CheckConstraint(
            f"{_ADDRESS.format('wallet')} and {_ADDRESS.format('token_account')}", name="addresses"
        ),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="reason_length"),
        CheckConstraint("state <> 'quarantined' or reason is not null", name="quarantined_has_reason"),
        Index(
            "uq_payout_item_provider_epoch",
            "provider_id",
            "epoch_id",
            unique=True,
            postgresql_where=text("state <> 'returned'"),
        ),
        Index(
            "uq_payout_item_deposit",
            "deposit_id",
            unique=True,
            postgresql_where=text("state <> 'returned'"),
        ),
        Index("ix_payout_item_provider_id_id", "provider_id", "id"),
        Index("ix_payout_item_part_id", "part_id"),
        Index("ix_payout_item_epoch_id", "epoch_id"),
    )

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("payout_batch.id", ondelete="RESTRICT"))
    part_id: Mapped[UUID | None]
    """Set when the batch is approved."""
    position: Mapped[int]
    provider_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    deposit_id: Mapped[UUID | None] = mapped_column(ForeignKey("usdc_deposit.id", ondelete="RESTRICT"))
    epoch_id: Mapped[UUID | None] = mapped_column(ForeignKey("epoch.id", ondelete="RESTRICT"))
    wallet: Mapped[str]
    token_account: Mapped[str]
    """The wallet's associated account of the batch's mint."""
    amount_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[ItemState] = mapped_column(text_enum(ItemState), server_default=ItemState.PLANNED.value)
    reason: Mapped[str | None]
    """Why it was quarantined or returned."""


class PayoutAttempt(Row):
    """One signed transaction of a part. Committed before it is broadcast; only what became of it changes."""

    __tablename__ = "payout_attempt"
    __table_args__ = (
        UniqueConstraint("part_id", "number"),
        CheckConstraint(
            "number > 0 and generation >= 0 and version >= 0 and last_valid_block_height >= 0"
            " and compute_unit_limit > 0 and priority_fee_lamports >= 0",
            name="counts_in_range",
        ),
        CheckConstraint("length(raw_transaction) between 1 and 4096", name="raw_transaction_length"),
        CheckConstraint("(state = 'live') = (resolved_at is null)", name="resolved_has_time"),
        CheckConstraint("(purpose = 'open') = (cardinality(opens) > 0)", name="opens_accounts"),
        Index("ix_payout_attempt_live", "part_id", postgresql_where=text("state = 'live'")),
        Index(
            "ix_payout_attempt_opens",
            "opens",
            postgresql_using="gin",
            postgresql_where=text("purpose = 'open'"),
        ),
    )

    part_id: Mapped[UUID] = mapped_column(ForeignKey("payout_part.id", ondelete="RESTRICT"))
    number: Mapped[int]
    """From 1, within its part."""
    purpose: Mapped[Purpose] = mapped_column(text_enum(Purpose), server_default=Purpose.PAY.value)
    opens: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """Token accounts of payees that it creates at our cost."""
    generation: Mapped[int]
    signature: Mapped[str] = mapped_column(unique=True)
    raw_transaction: Mapped[bytes]
    version: Mapped[int] = mapped_column(SmallInteger)
    blockhash: Mapped[str]
    last_valid_block_height: Mapped[int] = mapped_column(BigInteger)
    compute_unit_limit: Mapped[int]
    priority_fee_lamports: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[AttemptState] = mapped_column(
        text_enum(AttemptState), server_default=AttemptState.LIVE.value
    )
    error: Mapped[str | None]
    resolved_at: Mapped[datetime | None]


class PayoutApproval(Base):
    """That a person approved a batch, for the total it had."""

    __tablename__ = "payout_approval"
    __table_args__ = (CheckConstraint("total_micro_usdc > 0", name="total_positive"),)

    batch_id: Mapped[UUID] = mapped_column(
        ForeignKey("payout_batch.id", ondelete="RESTRICT"), primary_key=True
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"), primary_key=True)
    decided_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    total_micro_usdc: Mapped[int] = mapped_column(BigInteger)
