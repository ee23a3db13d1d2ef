"""Tables of statistics. All of it can be made again from attempts, and none of it is money."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, SmallInteger, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum


class Span(StrEnum):
    """How far back statistics look."""

    HALF_HOUR = "half_hour"
    DAY = "day"


class AttemptCounts:
    """What is counted of one endpoint from `starts_at` on. The histograms have a bin for each fifth more: see `histogram`."""

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    delivered: Mapped[int]
    provider_failures: Mapped[int]
    tokens: Mapped[int] = mapped_column(BigInteger)
    first_token_bins: Mapped[dict[str, int]] = mapped_column(JSONB)
    """Attempts by the bin of their milliseconds to the first token."""
    rate_bins: Mapped[dict[str, int]] = mapped_column(JSONB)
    """Attempts by the bin of their tenths of tokens per second after the first."""


class AttemptSlot(AttemptCounts, Base):
    """Five minutes, kept for a few hours."""

    __tablename__ = "attempt_slot"
    __table_args__ = (Index("ix_attempt_slot_starts_at", "starts_at"),)


class AttemptHour(AttemptCounts, Base):
    """The sum of an hour's slots, kept for a day: of five-minute slots a day of a thousand endpoints is too many."""

    __tablename__ = "attempt_hour"
    __table_args__ = (Index("ix_attempt_hour_starts_at", "starts_at"),)


class ServiceFigures(Base):
    """What is shown of an endpoint or a model; made anew every minute, of a day every ten."""

    __tablename__ = "service_figures"
    __table_args__ = (
        CheckConstraint("0 <= delivered and delivered <= attempts", name="delivered_of_attempts"),
    )

    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    """An endpoint's or a model's."""
    span: Mapped[Span] = mapped_column(text_enum(Span), primary_key=True)
    attempts: Mapped[int]
    delivered: Mapped[int]
    provider_failures: Mapped[int]
    tokens: Mapped[int] = mapped_column(BigInteger)
    first_token_ms_p50: Mapped[int | None]
    first_token_ms_p95: Mapped[int | None]
    tokens_per_s_p50: Mapped[float | None]
    tokens_per_s_p95: Mapped[float | None]
    """The rate that 95 of 100 attempts reach."""
    computed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class NodePresence(Base):
    """How often in one hour a machine was looked for, and found linked. An hour without the job has no samples."""

    __tablename__ = "node_presence"
    __table_args__ = (
        CheckConstraint("0 <= seen and seen <= samples", name="seen_of_samples"),
        Index("ix_node_presence_hour", "hour"),
    )

    node_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    samples: Mapped[int] = mapped_column(SmallInteger)
    seen: Mapped[int] = mapped_column(SmallInteger)
