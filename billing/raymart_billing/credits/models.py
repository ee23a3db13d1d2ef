"""Tables of granted credit and of corrections by hand."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class GrantSource(StrEnum):
    """Why credit was granted."""

    ADMIN = "admin"
    """An administrator gave it."""
    PROMOTION = "promotion"
    """A campaign gave it."""
    RULE = "rule"
    """A rule of the platform gave it."""


class CreditGrant(Row):
    """Credit that was given, not paid. How much of it is left follows from the ledger (`consumption`)."""

    __tablename__ = "credit_grant"
    __table_args__ = (
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint("length(reason) <= 500", name="reason_length"),
        Index("ix_credit_grant_organization_id_id", "organization_id", "id"),
        Index(
            "ix_credit_grant_due",
            "expires_at",
            postgresql_where=text("closed_at is null and expires_at is not null"),
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    transfer_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    """The `credit_grant` of the ledger that gave it."""
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    """When what is left is taken back; null for never."""
    source: Mapped[GrantSource] = mapped_column(text_enum(GrantSource))
    reason: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    closed_at: Mapped[datetime | None]
    """When it was seen to be used up or taken back: nothing is left of it."""


class CreditCheckpoint(Base):
    """How an organization's balance was made up after the transfer `through_id`: a memory, never the truth.

    `consumption.fold` gives the same from the ledger alone; with it only what came later is read.
    """

    __tablename__ = "credit_checkpoint"

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), primary_key=True
    )
    through_id: Mapped[int] = mapped_column(BigInteger)
    parts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """`Parts.to_json`: what is left of each grant, and what was paid."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class BalanceAdjustment(Row):
    """A correction of a customer's balance by an administrator, with its reason. Only added to."""

    __tablename__ = "balance_adjustment"
    __table_args__ = (
        CheckConstraint("change_nano_usd <> 0", name="change_not_zero"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_length"),
        Index("ix_balance_adjustment_organization_id_id", "organization_id", "id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    transfer_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    change_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """Above zero in the customer's favour."""
    reason: Mapped[str]
    actor_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
