"""The table of payout wallets. The triggers of its migration guard it; a choice is never rewritten."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class WalletWarning(StrEnum):
    """What a provider must have seen of a wallet before it may choose it."""

    EXCHANGE = "exchange"
    """It is an exchange's: what arrives there may be credited to nobody, and is never sent back by hand."""
    SHARED = "shared"
    """Another organization has proven it too."""


class CheckState(StrEnum):
    """What is known of a wallet on the chain."""

    UNCHECKED = "unchecked"
    """The chain was not asked yet, or is away. Nothing is paid."""
    PASSED = "passed"
    FAILED = "failed"
    """It is no wallet there: money sent to it could be lost. Nothing is paid."""


class EndReason(StrEnum):
    """Why a choice is over."""

    REPLACED = "replaced"
    CANCELLED = "cancelled"
    """Within its cool-down: the wallet before it counts again."""
    PROOF_WITHDRAWN = "proof_withdrawn"
    """The organization withdrew the proof that the wallet is its own."""


class PayoutWallet(Row):
    """A provider's choice of the wallet that its earnings go to; `created_at` is when it was made."""

    __tablename__ = "payout_wallet"
    __table_args__ = (
        CheckConstraint("length(address) between 32 and 44", name="address_is_base58"),
        CheckConstraint("is_first or payable_from >= created_at + interval '72 hours'", name="cools_down"),
        CheckConstraint("not is_first or earlier_id is null", name="first_has_none_before"),
        CheckConstraint(
            "(check_state = 'unchecked') = (checked_at is null)"
            " and (check_state = 'failed') = (check_finding is not null)"
            " and length(check_finding) between 1 and 300",
            name="check_is_whole",
        ),
        CheckConstraint(
            "(ended_at is null) = (end_reason is null)"
            " and (ended_by is null or end_reason in ('replaced', 'cancelled'))",
            name="end_is_whole",
        ),
        CheckConstraint(
            "end_reason <> 'cancelled' or ended_at < payable_from", name="cancelled_while_cooling"
        ),
        Index(
            "uq_payout_wallet_current", "provider_id", unique=True, postgresql_where=text("ended_at is null")
        ),
        Index("uq_payout_wallet_first", "provider_id", unique=True, postgresql_where=text("is_first")),
        Index("ix_payout_wallet_provider_id_id", "provider_id", "id"),
        Index("ix_payout_wallet_address_current", "address", postgresql_where=text("ended_at is null")),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    address: Mapped[str]
    proof_id: Mapped[UUID] = mapped_column(ForeignKey("wallet_proof.id", ondelete="RESTRICT"), index=True)
    proven_at: Mapped[datetime]
    """When the wallet had last signed for the organization; minutes before the choice."""
    chosen_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    is_first: Mapped[bool]
    """The one that has no cool-down, because nothing could have been paid elsewhere. The database says which."""
    payable_from: Mapped[datetime]
    earlier_id: Mapped[UUID | None] = mapped_column(ForeignKey("payout_wallet.id"))
    """The choice that counts again if this one is cancelled: the last one that had cooled down."""
    warnings: Mapped[list[str]] = mapped_column(ARRAY(String))
    """`WalletWarning`s that were acknowledged."""
    check_state: Mapped[CheckState] = mapped_column(text_enum(CheckState))
    checked_at: Mapped[datetime | None]
    check_finding: Mapped[str | None]
    """Why the check failed, in words."""
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[EndReason | None] = mapped_column(text_enum(EndReason))
    ended_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
