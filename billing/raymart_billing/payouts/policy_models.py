"""Tables of what people rule about payouts: how far each provider is trusted, the policy, and the kill switch."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum

REASON_CHARACTERS_MAX = 500


class SwitchSource(StrEnum):
    """Who stopped payouts. Each lifts only its own."""

    ADMIN = "admin"
    RECONCILIATION = "reconciliation"
    """The chain and the ledger differ."""


class ProviderTrust(Base):
    """How far a provider is trusted, 0 to 100; who has no row is neutral."""

    __tablename__ = "provider_trust"
    __table_args__ = (
        CheckConstraint("score between 0 and 100", name="score_in_range"),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
    )

    provider_id: Mapped[UUID] = mapped_column(
        ForeignKey("provider.id", ondelete="RESTRICT"), primary_key=True
    )
    score: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[str]
    set_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None where it was measured."""
    set_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class PayoutPolicy(Row):
    """The rules of payouts. A change is a new version; the newest holds."""

    __tablename__ = "payout_policy"
    __table_args__ = (
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint("minimum_micro_usdc > 0", name="minimum_positive"),
        CheckConstraint(
            "batch_cap_micro_usdc > 0 and day_cap_micro_usdc >= batch_cap_micro_usdc", name="caps_in_order"
        ),
        CheckConstraint("four_eyes_above_micro_usdc >= 0", name="four_eyes_not_negative"),
        CheckConstraint("epoch_hours between 1 and 744", name="epoch_up_to_a_month"),
        CheckConstraint(
            "jsonb_typeof(holdback_bands) = 'array' and jsonb_array_length(holdback_bands) between 1 and 20",
            name="bands_are_a_list",
        ),
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
    )

    version: Mapped[int] = mapped_column(BigInteger, unique=True)
    minimum_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """Less is carried over."""
    batch_cap_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """The most that one batch may pay."""
    day_cap_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """The most that may be approved in 24 hours."""
    four_eyes_above_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    """A larger batch needs two people who did not plan it."""
    epoch_hours: Mapped[int]
    """How long an epoch lasts."""
    holdback_bands: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """[{"trust_min", "basis_points", "days"}], by rising trust from 0: see `holdback.py`."""
    reason: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))


class PayoutSwitch(Row):
    """That payouts were stopped, by whom and why. They are stopped while any row is not resumed."""

    __tablename__ = "payout_switch"
    __table_args__ = (
        CheckConstraint(f"length(reason) between 1 and {REASON_CHARACTERS_MAX}", name="has_reason"),
        CheckConstraint("source <> 'admin' or paused_by is not null", name="admin_is_named"),
        CheckConstraint(
            "(resumed_at is null) = (resumed_reason is null) and (resumed_by is null or resumed_at is not null)"
            f" and length(resumed_reason) between 1 and {REASON_CHARACTERS_MAX}",
            name="resumed_as_a_whole",
        ),
        Index(
            "uq_payout_switch_standing", "source", unique=True, postgresql_where=text("resumed_at is null")
        ),
    )

    source: Mapped[SwitchSource] = mapped_column(text_enum(SwitchSource))
    paused_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    paused_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    reason: Mapped[str]
    resumed_at: Mapped[datetime | None]
    resumed_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    resumed_reason: Mapped[str | None]
