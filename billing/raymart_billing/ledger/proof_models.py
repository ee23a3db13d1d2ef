"""Tables that show the books to be true, for reading: rules of the codes, snapshots, checks and seals (migration 0010)."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Identity, LargeBinary, String, func
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum


class LedgerCheckKind(StrEnum):
    """Which check of the books it was."""

    RECONCILE = "reconcile"
    """The last snapshot and the transfers since, against the balances. Cheap: every few minutes."""
    VERIFY = "verify"
    """All transfers, holds, snapshots and seals, from the first row on."""
    SEAL = "seal"
    """The sealer met a chain that is not the one it made. Written only when it did."""


class TransferRule(Base):
    """What the database lets a code do: move money from one kind of account to another, in one state."""

    __tablename__ = "transfer_code"
    __table_args__ = (
        CheckConstraint(
            "(debit_kind is null) = (code = 'reversal') and (credit_kind is null) = (code = 'reversal')",
            name="kinds_but_for_reversal",
        ),
    )

    code: Mapped[str] = mapped_column(String(32), primary_key=True)
    debit_kind: Mapped[str | None] = mapped_column(String(32))
    """None for a reversal, which mirrors its transfer."""
    credit_kind: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(32))
    asset: Mapped[str] = mapped_column(String(32))
    one_owner: Mapped[bool]
    """Whether both accounts, when both have an owner, must have the same one."""


class LedgerSnapshot(Base):
    """All balances at one moment of a day (UTC). `account_snapshot` has the accounts that changed since the one before."""

    __tablename__ = "ledger_snapshot"

    day: Mapped[date] = mapped_column(primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    horizon: Mapped[str]
    """PostgreSQL's `pg_snapshot`: transfers of transactions that it does not see came after this snapshot."""


class AccountSnapshot(Base):
    """One account's columns at the snapshot of `day`."""

    __tablename__ = "account_snapshot"

    account_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True, index=True)
    debits_posted: Mapped[int] = mapped_column(BigInteger)
    credits_posted: Mapped[int] = mapped_column(BigInteger)
    debits_pending: Mapped[int] = mapped_column(BigInteger)
    credits_pending: Mapped[int] = mapped_column(BigInteger)


class LedgerCheck(Base):
    """What one check of the books found. The newest row of a kind with findings is the alarm."""

    __tablename__ = "ledger_check"
    __table_args__ = (
        CheckConstraint("(findings > 0) = (finding is not null)", name="finding_is_named"),
        CheckConstraint("findings >= 0 and duration_ms >= 0", name="findings_not_negative"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[LedgerCheckKind] = mapped_column(text_enum(LedgerCheckKind))
    checked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    findings: Mapped[int] = mapped_column(BigInteger)
    finding: Mapped[str | None]
    """The first that was found, in words."""


class TransferSeal(Base):
    """One link of the chain over all transfers, in the order in which they became certain."""

    __tablename__ = "transfer_seal"
    __table_args__ = (
        CheckConstraint("position > 0", name="position_positive"),
        CheckConstraint("length(hash) = 32", name="hash_is_sha256"),
    )

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transfer_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC-SHA256 of the hash before and the transfer's columns; see `seal.py`."""
