"""Tables of money that comes in as USDC: what customers asked to pay, what arrived, and how far the treasury was read."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class UsdcDepositState(StrEnum):
    """Where a payment to the treasury stands."""

    SEEN = "seen"
    """Confirmed by the chain's majority and not final: it may yet vanish, and moves no money."""
    DROPPED = "dropped"
    """Was seen and is on no fork any more. Should it land after all, it becomes final as any other."""
    FINAL = "final"
    """Final and in `usdc_suspense`: nobody's yet, or held. A person decides."""
    CREDITED = "credited"
    """In a customer's balance."""
    REFUNDING = "refunding"
    """On its way back to who paid it: it has left the balance and waits in `usdc_suspense`."""
    REFUNDED = "refunded"
    """Final on the chain: it was paid back."""
    FUNDING = "funding"
    """The platform's own: it filled up its treasury."""


class Attribution(StrEnum):
    """How a payment was told whose it is."""

    REFERENCE = "reference"
    """By the public key that its request named, among the transaction's accounts."""
    MEMO = "memo"
    """By the same key in the transaction's memo: from wallets and exchanges that know no references."""
    PERSON = "person"
    """By an administrator."""


class SenderMark(StrEnum):
    """What the platform knows of a wallet that pays."""

    BLOCKED = "blocked"
    """Known to be bad: what it pays is held."""
    EXCHANGE = "exchange"
    """Of an exchange, which pays for many: what is sent back there may reach nobody."""


class UsdcTopUp(Row):
    """A customer's wish to pay in USDC, with the public key that its payment will carry. Nothing of it ever changes."""

    __tablename__ = "usdc_top_up"
    __table_args__ = (
        UniqueConstraint("organization_id", "idempotency_key"),
        CheckConstraint("amount_micro_usdc > 0", name="amount_positive"),
        CheckConstraint("length(reference) between 32 and 44", name="reference_is_base58"),
        CheckConstraint("length(idempotency_key) between 1 and 128", name="key_length"),
        Index("ix_usdc_top_up_organization_id_id", "organization_id", "id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    reference: Mapped[str] = mapped_column(unique=True)
    """A public key of nobody, base58; it costs nothing and makes the payment ours to tell."""
    amount_micro_usdc: Mapped[int | None] = mapped_column(BigInteger)
    """What the wallet is asked to pay; null leaves it to the payer."""
    url: Mapped[str]
    """The Solana Pay URL, as it was given out."""
    idempotency_key: Mapped[str]
    """The customer's own."""
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime]
    """Until when it is shown as open. A payment that comes later, or a second one, is the customer's all the same."""


class UsdcDeposit(Row):
    """One payment into an account of the treasury, by the transaction that made it."""

    __tablename__ = "usdc_deposit"
    __table_args__ = (
        UniqueConstraint("signature", "account"),
        CheckConstraint("amount_micro_usdc > 0", name="amount_positive"),
        CheckConstraint("length(signature) between 64 and 88", name="signature_is_base58"),
        CheckConstraint("length(account) between 32 and 44", name="account_is_base58"),
        CheckConstraint("length(memo) <= 500", name="memo_length"),
        CheckConstraint("length(decision_reason) between 1 and 500", name="reason_length"),
        CheckConstraint("(final_at is null) = (state in ('seen', 'dropped'))", name="final_when"),
        CheckConstraint("state <> 'credited' or credited_at is not null", name="credited_when"),
        CheckConstraint("credited_at is null or organization_id is not null", name="credited_to_somebody"),
        CheckConstraint("(organization_id is null) = (attributed_by is null)", name="attributed_how"),
        Index("ix_usdc_deposit_organization_id_id", "organization_id", "id"),
        Index("ix_usdc_deposit_top_up_id", "top_up_id"),
        Index("ix_usdc_deposit_undecided", "id", postgresql_where=text("state = 'final'")),
        Index("ix_usdc_deposit_seen", "slot", postgresql_where=text("state = 'seen'")),
    )

    signature: Mapped[str]
    """The transaction's first signature, base58."""
    account: Mapped[str]
    """The treasury's token account that it reached."""
    mint: Mapped[str]
    amount_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """By how much the account's balance grew."""
    state: Mapped[UsdcDepositState] = mapped_column(text_enum(UsdcDepositState))
    slot: Mapped[int] = mapped_column(BigInteger)
    block_time: Mapped[datetime | None]
    """When the chain says that it landed."""
    sources: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """Token accounts of the mint that grew smaller in it: [{"wallet", "account", "amount"}], the largest first."""
    memo: Mapped[str | None]
    """What the payer wrote, at most 500 characters of it."""
    reference: Mapped[str | None]
    """The request's public key that was found in it."""
    top_up_id: Mapped[UUID | None] = mapped_column(ForeignKey("usdc_top_up.id", ondelete="RESTRICT"))
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    """Whose it is; null while nobody knows."""
    attributed_by: Mapped[Attribution | None] = mapped_column(text_enum(Attribution))
    held_reason: Mapped[str | None]
    """Why it waits for a person; null once it was decided, or when nothing is wrong."""
    final_at: Mapped[datetime | None]
    credited_at: Mapped[datetime | None]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    decision_reason: Mapped[str | None]
    """Why a person assigned it, or took it for the treasury's."""


class UsdcRefund(Row):
    """A deposit on its way back to a wallet that paid it: reviewed, approved and sent as a payout of one."""

    __tablename__ = "usdc_refund"
    __table_args__ = (
        CheckConstraint("amount_micro_usdc > 0", name="amount_positive"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
        CheckConstraint("settled_at is null or returned_at is null", name="ends_once"),
        # What was returned leaves the way free for another try; what was settled does not.
        Index(
            "uq_usdc_refund_standing",
            "deposit_id",
            unique=True,
            postgresql_where=text("returned_at is null"),
        ),
    )

    deposit_id: Mapped[UUID] = mapped_column(ForeignKey("usdc_deposit.id", ondelete="RESTRICT"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("payout_item.id", ondelete="RESTRICT"), unique=True)
    """The payout's only item."""
    wallet: Mapped[str]
    """One of the wallets that paid."""
    amount_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    from_balance: Mapped[bool]
    """Whether it was taken from a customer's balance; otherwise it was nobody's."""
    exchange_acknowledged: Mapped[bool]
    """Whether somebody knew that the wallet is an exchange's and has made sure that it will be credited there."""
    reason: Mapped[str]
    actor_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    settled_at: Mapped[datetime | None]
    returned_at: Mapped[datetime | None]


class UsdcSender(Base):
    """What the platform knows of a wallet that pays."""

    __tablename__ = "usdc_sender"
    __table_args__ = (
        CheckConstraint("length(wallet) between 32 and 44", name="wallet_is_base58"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
    )

    wallet: Mapped[str] = mapped_column(primary_key=True)
    mark: Mapped[SenderMark] = mapped_column(text_enum(SenderMark))
    reason: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class TreasuryMovement(Base):
    """What one final transaction did to an account of the treasury: in, out, or nothing. Only added to.

    The sum of an account's movements is its balance on the chain; reconciliation compares the two.
    """

    __tablename__ = "treasury_movement"
    __table_args__ = (
        CheckConstraint("not failed or delta_micro_usdc = 0", name="failed_moves_nothing"),
        Index("ix_treasury_movement_account_slot", "account", "slot"),
    )

    signature: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    """Orders the rows as they were written, which is the order in which transactions landed but for what was missed."""
    slot: Mapped[int] = mapped_column(BigInteger)
    block_time: Mapped[datetime | None]
    delta_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """Balance after less balance before."""
    failed: Mapped[bool]
    """The transaction named the account and failed: fees were paid, nothing moved."""
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class UsdcScan(Base):
    """How far an account of the treasury was read. One row per account; its lock makes scanners take turns."""

    __tablename__ = "usdc_scan"
    __table_args__ = (CheckConstraint("fence >= 0", name="fence_grows"),)

    account: Mapped[str] = mapped_column(primary_key=True)
    cursor: Mapped[str | None]
    """The newest signature up to which every transaction is stored; null to read from the beginning."""
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Of the newest scanner; an older one is refused."""
    scanned_at: Mapped[datetime | None]
    """When a scan last came to its end."""
    problem: Mapped[str | None]
    """Why the last one did not; null when it did."""
    problem_since: Mapped[datetime | None]
    gap_micro_usdc: Mapped[int | None] = mapped_column(BigInteger)
    """By how much the chain's balance exceeded the sum of the movements when the last scan ended; null for not at all."""
    reread_at: Mapped[datetime | None]
    """When it was last read from the beginning because of a gap."""
