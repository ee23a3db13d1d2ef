"""Tables of alerts: what a customer wants to be told of, and what it was told."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class AlertKind(StrEnum):
    """What an alert is about."""

    LOW_BALANCE = "low_balance"
    """The balance fell below a threshold."""
    BUDGET_NEAR = "budget_near"
    """A budget is used to 80 % or more."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """A budget is used up."""


class AlertThreshold(Base):
    """An organization's own threshold, in place of the platform's."""

    __tablename__ = "alert_threshold"
    __table_args__ = (CheckConstraint("low_balance_nano_usd >= 0", name="not_negative"),)

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), primary_key=True
    )
    low_balance_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """0 turns the alert off."""


class Alert(Row):
    """One crossing of a threshold: raised once, cleared when the value is well on the other side again."""

    __tablename__ = "alert"
    __table_args__ = (
        # One open alert for each thing it can be about: that is what "once per crossing" means.
        Index(
            "uq_alert_open",
            "organization_id",
            "kind",
            "subject",
            unique=True,
            postgresql_where=text("cleared_at is null"),
        ),
        Index("ix_alert_organization_id_id", "organization_id", "id"),
        Index("ix_alert_undelivered", "id", postgresql_where=text("delivered_at is null")),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    kind: Mapped[AlertKind] = mapped_column(text_enum(AlertKind))
    subject: Mapped[str]
    """What it is about beside the organization: a budget's id, or nothing."""
    threshold_nano_usd: Mapped[int] = mapped_column(BigInteger)
    value_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What it was when the alert was raised."""
    cleared_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
