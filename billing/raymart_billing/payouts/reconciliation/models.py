"""Tables of reconciliation: its runs, what they found, and withdrawals from the treasury that people recorded."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_billing.payouts.reconciliation.differences import DifferenceKind
from raymart_marketplace.db.base import Base, Row, text_enum

REASON_CHARACTERS_MAX = 500
SIDE_CHARACTERS_MAX = 300
"""Of what was expected or found."""


class RunTrigger(StrEnum):
    """Who wanted a reconciliation."""

    NIGHTLY = "nightly"
    ADMIN = "admin"
    """Over GraphQL."""
    OPERATOR = "operator"
    """At the command line."""


class ReconciliationRun(Row):
    """One comparison of the chain with our rows: from when, up to which slot, and how much was looked at."""

    __tablename__ = "reconciliation_run"
    __table_args__ = (
        CheckConstraint("(trigger = 'admin') = (requested_by is not null)", name="admin_is_named"),
        CheckConstraint(
            "finished_at is null or error is not null or (slot is not null and balance_micro_usdc is not null"
            " and opening_micro_usdc is not null and lamports is not null)",
            name="finished_has_figures",
        ),
        CheckConstraint("differences >= 0 and parts >= 0 and transactions >= 0", name="not_negative"),
        CheckConstraint(
            "balance_micro_usdc >= 0 and lamports >= 0 and fees_lamports >= 0", name="no_debt_on_chain"
        ),
        Index(
            "ix_reconciliation_run_whole",
            "created_at",
            postgresql_where=text("finished_at is not null and error is null"),
        ),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    """What people call it."""
    trigger: Mapped[RunTrigger] = mapped_column(text_enum(RunTrigger))
    requested_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    since: Mapped[datetime | None]
    """Parts finalized and transactions made before were not looked at; none when everything was."""
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None]
    """Why it could not finish; nothing is then known, neither good nor bad."""
    treasury: Mapped[str | None]
    """Wallet whose token account was read."""
    genesis: Mapped[str | None]
    endpoints: Mapped[int | None]
    """How many were asked; with one there is no second opinion."""
    slot: Mapped[int | None] = mapped_column(BigInteger)
    """The last that was looked at; the balance is the one after it."""
    opening_run_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("reconciliation_run.id", ondelete="RESTRICT")
    )
    """The run whose balance this one began with; none when it read the whole history."""
    opening_micro_usdc: Mapped[int | None] = mapped_column(BigInteger)
    balance_micro_usdc: Mapped[int | None] = mapped_column(BigInteger)
    lamports: Mapped[int | None] = mapped_column(BigInteger)
    """Of the treasury, for fees and rents."""
    fees_lamports: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Sum of the fees of the payouts that were looked at."""
    parts: Mapped[int] = mapped_column(server_default=text("0"))
    transactions: Mapped[int] = mapped_column(server_default=text("0"))
    differences: Mapped[int] = mapped_column(server_default=text("0"))


class ReconciliationDifference(Row):
    """Something that does not agree, once for as long as it does not; a person ends it with a reason."""

    __tablename__ = "reconciliation_difference"
    __table_args__ = (
        CheckConstraint(
            f"length(expected) between 1 and {SIDE_CHARACTERS_MAX} and length(found) between 1 and {SIDE_CHARACTERS_MAX}",
            name="both_sides",
        ),
        CheckConstraint(
            "(resolved_at is null) = (reason is null) and (resolved_by is null or resolved_at is not null)"
            f" and length(reason) between 1 and {REASON_CHARACTERS_MAX}",
            name="resolved_as_a_whole",
        ),
        # The same difference in the next night is the same row; after it was gone, it is a new one.
        Index(
            "uq_reconciliation_difference_standing",
            "kind",
            "subject_table",
            "subject",
            "expected",
            "found",
            unique=True,
            postgresql_where=text("gone_at is null"),
        ),
        Index("ix_reconciliation_difference_open", "id", postgresql_where=text("resolved_at is null")),
        Index("ix_reconciliation_difference_run_id", "run_id"),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    """What people call it."""
    run_id: Mapped[UUID] = mapped_column(ForeignKey("reconciliation_run.id", ondelete="RESTRICT"))
    """The run that found it first."""
    last_run_id: Mapped[UUID] = mapped_column(ForeignKey("reconciliation_run.id", ondelete="RESTRICT"))
    """The newest that found it."""
    kind: Mapped[DifferenceKind] = mapped_column(text_enum(DifferenceKind))
    subject_table: Mapped[str]
    """Of the row that it is about; `treasury` for the account on chain."""
    subject: Mapped[str]
    """The row's id, or a signature or address."""
    expected: Mapped[str]
    found: Mapped[str]
    gone_at: Mapped[datetime | None]
    """When a run that would have found it did not any more."""
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None where an operator did at the command line; the audit log has the name."""
    reason: Mapped[str | None]


class TreasuryWithdrawal(Base):
    """USDC that left the treasury for another purpose than a payout: a person says what for. Booked with its row.

    The amount is what the chain says, read when it was recorded. What comes in is a deposit, marked as funding.
    """

    __tablename__ = "treasury_withdrawal"
    __table_args__ = (
        CheckConstraint("amount_micro_usdc > 0", name="amount_positive"),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
        CheckConstraint("signature ~ '^[1-9A-HJ-NP-Za-km-z]{64,88}$'", name="signature_is_base58"),
    )

    signature: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    slot: Mapped[int] = mapped_column(BigInteger)
    amount_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    recorded_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None where an operator did at the command line; the audit log has the name."""
