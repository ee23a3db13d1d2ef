"""Tables of money that comes in by card, and of what banks and administrators do with it later."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class DepositRail(StrEnum):
    """How money reaches us."""

    CARD = "card"
    """A card, through Stripe's checkout page: no card data ever passes through us."""
    USDC = "usdc"
    """USDC on Solana."""


class DepositState(StrEnum):
    """Where a deposit stands. Derived from what is known of it by `standing.state_of`, never set for its own sake."""

    CREATED = "created"
    """Ours alone: the processor has not answered yet."""
    PENDING = "pending"
    """The customer can pay, or the bank has not decided."""
    SUCCEEDED = "succeeded"
    """Paid and final, not credited: held for review."""
    CREDITED = "credited"
    """In the customer's balance."""
    FAILED = "failed"
    """The bank or the processor refused."""
    EXPIRED = "expired"
    """Nobody paid in time."""
    REFUNDED = "refunded"
    """Paid back in full."""
    DISPUTED = "disputed"
    """A bank took it back, for the time being or for good."""


class RefundOrigin(StrEnum):
    """Who paid a deposit back."""

    PLATFORM = "platform"
    """An administrator, through this API."""
    PROCESSOR = "processor"
    """Somebody at the processor: seen in its events."""


class RefundState(StrEnum):
    """Where a deposit's refund stands. Its money has left the balance in every state but `failed`."""

    REQUESTED = "requested"
    """The processor has not confirmed it yet; it is asked again until it does."""
    SUCCEEDED = "succeeded"
    """Done."""
    FAILED = "failed"
    """Refused: the money is back in the balance."""


class DisputeStage(StrEnum):
    """What a bank's dispute means for money."""

    INQUIRY = "inquiry"
    """A question of the bank: no money has moved."""
    OPEN = "open"
    """The bank has taken the money for the time being."""
    WON = "won"
    """The bank has given it back."""
    LOST = "lost"
    """The bank keeps it."""


class DisputeBooking(StrEnum):
    """How far the ledger has followed a dispute."""

    OPENED = "opened"
    """The money is in the customer's dispute account."""
    WON = "won"
    """It went back to the balance."""
    LOST = "lost"
    """It went out with the bank."""


class EventState(StrEnum):
    """What became of an event of the processor."""

    RECEIVED = "received"
    """Written down, not yet applied."""
    APPLIED = "applied"
    """The books know it."""
    IGNORED = "ignored"
    """Of no concern to us: another kind of event, or an object that is not ours."""
    REVIEW = "review"
    """Signed, but not what it should be: for an administrator."""
    RESOLVED = "resolved"
    """An administrator has looked at it and done what was to do."""


class Deposit(Row):
    """Money on its way in. Facts come from the processor and only grow; `state` follows from them."""

    __tablename__ = "deposit"
    __table_args__ = (
        UniqueConstraint("organization_id", "idempotency_key"),
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint("credited_nano_usd >= 0 and refunded_nano_usd >= 0", name="not_negative"),
        CheckConstraint("refunded_nano_usd <= credited_nano_usd", name="refunded_at_most_credited"),
        CheckConstraint("(credited_at is null) = (credited_nano_usd = 0)", name="credited_when"),
        CheckConstraint("credited_at is null or paid_at is not null", name="paid_before_credited"),
        CheckConstraint("length(idempotency_key) between 1 and 128", name="key_length"),
        Index("ix_deposit_organization_id_id", "organization_id", "id"),
        Index(
            "ix_deposit_unsettled",
            "checked_at",
            postgresql_where=text("state in ('created', 'pending') or fee_due"),
        ),
        Index("ix_deposit_held", "id", postgresql_where=text("held_reason is not null")),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    rail: Mapped[DepositRail] = mapped_column(text_enum(DepositRail))
    state: Mapped[DepositState] = mapped_column(text_enum(DepositState))
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What the customer asked to pay."""
    idempotency_key: Mapped[str]
    """The customer's own."""
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime]
    """When the checkout page closes."""
    session_id: Mapped[str | None] = mapped_column(unique=True)
    """The processor's checkout session."""
    session_url: Mapped[str | None]
    payment_id: Mapped[str | None] = mapped_column(unique=True)
    """The processor's payment, known once it was paid."""
    received_amount: Mapped[int | None] = mapped_column(BigInteger)
    """What the processor says was paid, in the smallest unit of `received_currency`."""
    received_currency: Mapped[str | None]
    paid_at: Mapped[datetime | None]
    failed_reason: Mapped[str | None]
    expired_at: Mapped[datetime | None]
    held_reason: Mapped[str | None]
    """Why it is not credited though it is paid; null when nothing is wrong."""
    review_reason: Mapped[str | None]
    """Why it was credited though it had been held."""
    reviewed_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    credited_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    credited_at: Mapped[datetime | None]
    refunded_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Of what was credited: paid back, or on its way back."""
    fee_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    """What the processor kept; null until it says."""
    fee_due: Mapped[bool] = mapped_column(server_default=text("false"))
    """Credited, and the processor's fee is not known yet."""
    checked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """When the processor was last asked about it."""


class CardPayment(Base):
    """What the processor says of one payment, whether or not its deposit is known already. Amounts only grow."""

    __tablename__ = "card_payment"
    __table_args__ = (CheckConstraint("refunded_amount >= 0 and fee_amount >= 0", name="not_negative"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """The processor's payment."""
    charge_id: Mapped[str | None]
    currency: Mapped[str]
    refunded_amount: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Paid back in all, in cents."""
    fee_amount: Mapped[int | None] = mapped_column(BigInteger)
    """Kept by the processor, in cents; null until it says."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class DepositRefund(Row):
    """A deposit, or a part of it, paid back to the card. Its money has left the balance before the processor is asked."""

    __tablename__ = "deposit_refund"
    __table_args__ = (
        UniqueConstraint("deposit_id", "idempotency_key"),
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint("shortfall_nano_usd between 0 and amount_nano_usd", name="shortfall_fits"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
        Index("ix_deposit_refund_requested", "id", postgresql_where=text("state = 'requested'")),
    )

    deposit_id: Mapped[UUID] = mapped_column(ForeignKey("deposit.id", ondelete="RESTRICT"))
    origin: Mapped[RefundOrigin] = mapped_column(text_enum(RefundOrigin))
    state: Mapped[RefundState] = mapped_column(text_enum(RefundState))
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    shortfall_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The part that the balance did not cover; the customer owes it. Only with origin `processor`."""
    idempotency_key: Mapped[str]
    reason: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    provider_id: Mapped[str | None] = mapped_column(unique=True)
    """The processor's refund."""
    failed_reason: Mapped[str | None]


class Dispute(Row):
    """A bank's dispute of a payment, by the processor's id; `booked` says how far the ledger has followed."""

    __tablename__ = "dispute"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("from_balance_nano_usd >= 0 and from_receivable_nano_usd >= 0", name="not_negative"),
        Index("ix_dispute_payment_id", "payment_id"),
        Index("ix_dispute_organization_id_id", "organization_id", "id"),
    )

    provider_id: Mapped[str] = mapped_column(unique=True)
    """The processor's dispute."""
    payment_id: Mapped[str]
    charge_id: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    """In the smallest unit of `currency`."""
    currency: Mapped[str]
    status: Mapped[str]
    """The processor's own word."""
    stage: Mapped[DisputeStage] = mapped_column(text_enum(DisputeStage))
    reason: Mapped[str]
    """Why the bank disputes, in the processor's word."""
    evidence_due_at: Mapped[datetime | None]
    fee_amount: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What the processor takes for it, in cents."""
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    """The customer, once the deposit is known."""
    booked: Mapped[DisputeBooking | None] = mapped_column(text_enum(DisputeBooking))
    fee_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    """The fee as it was booked."""
    from_balance_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What was still in the balance and is out of reach now."""
    from_receivable_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What was spent already: the customer owes it."""
    held_reason: Mapped[str | None]
    """Why the ledger does not follow it; null when nothing is wrong."""


class StripeEvent(Base):
    """An event of the processor, by its id: what makes a repeated delivery have one effect."""

    __tablename__ = "stripe_event"
    __table_args__ = (
        Index("ix_stripe_event_received", "received_at", postgresql_where=text("state = 'received'")),
        Index("ix_stripe_event_review", "received_at", postgresql_where=text("state = 'review'")),
        Index("ix_stripe_event_occurred_at", "occurred_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    object_id: Mapped[str]
    occurred_at: Mapped[datetime]
    """By the processor's clock."""
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    fact: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What we read out of it (`stripe_facts`): no name, address or card of anybody."""
    state: Mapped[EventState] = mapped_column(text_enum(EventState))
    detail: Mapped[str | None]
    """Why it was ignored or needs a review."""
    resolved_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    resolution: Mapped[str | None]
    """What the administrator has done."""


class StripeReplay(Base):
    """How far the processor's own list of events was read: one row at most."""

    __tablename__ = "stripe_replay"
    __table_args__ = (CheckConstraint("is_only", name="one_row"),)

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    through_at: Mapped[datetime]


class BillingBlockChange(Row):
    """Who blocked or unblocked a customer, and why. Only added to."""

    __tablename__ = "billing_block_change"
    __table_args__ = (
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
        Index("ix_billing_block_change_organization_id_id", "organization_id", "id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    blocked: Mapped[bool]
    reason: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None where a rule did it."""
