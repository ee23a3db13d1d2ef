"""Rollups: sums of posted usage per hour and per day. Written by `usage_post` alone, read by everything that shows usage.

Each row is one customer's project, key, revision and provider in one hour or day (UTC) of the requests' arrival.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base


def _key(bucket: str) -> tuple[str, ...]:
    return ("organization_id", bucket, "project_id", "api_key_id", "revision_id", "provider_id")


class Measures:
    """What is summed."""

    requests: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    """Requests that were billed; one that delivered nothing has no usage."""
    tokens_prompt: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    tokens_completion: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    tokens_cached: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    image_pixel_steps: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    gpu_ms: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    requests_priced: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    """Requests whose offer has a price per request."""
    customer_nano_usd: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    provider_nano_usd: Mapped[int] = mapped_column(BigInteger, sort_order=10)
    fee_nano_usd: Mapped[int] = mapped_column(BigInteger, sort_order=10)


class UsageHour(Measures, Base):
    """One hour."""

    __tablename__ = "usage_hour"
    __table_args__ = (
        UniqueConstraint(*_key("hour"), name="uq_usage_hour_key", postgresql_nulls_not_distinct=True),
        Index("ix_usage_hour_provider_id_hour", "provider_id", "hour"),
        Index("ix_usage_hour_hour", "hour"),
    )
    __mapper_args__ = {"primary_key": _key("hour")}

    organization_id: Mapped[UUID]
    hour: Mapped[datetime]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    """None for what people asked with a token of their own."""
    revision_id: Mapped[UUID]
    provider_id: Mapped[UUID]


class UsageDay(Measures, Base):
    """One day."""

    __tablename__ = "usage_day"
    __table_args__ = (
        UniqueConstraint(*_key("day"), name="uq_usage_day_key", postgresql_nulls_not_distinct=True),
        Index("ix_usage_day_provider_id_day", "provider_id", "day"),
        Index("ix_usage_day_day", "day"),
    )
    __mapper_args__ = {"primary_key": _key("day")}

    organization_id: Mapped[UUID]
    day: Mapped[date]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    """None for what people asked with a token of their own."""
    revision_id: Mapped[UUID]
    provider_id: Mapped[UUID]


class UsageDayPart(Measures, Base):
    """A customer's day in two parts, each whole: by project and key, and by revision and provider; null is not grouped by.

    A row of the first part has no revision, one of the second no project. Far fewer than the combinations of both.
    Partitioned by customer, whose rows are read by the month and written among everybody's.
    """

    __tablename__ = "usage_day_part"
    _KEY = ("organization_id", "day", "revision_id", "provider_id", "project_id", "api_key_id")
    __table_args__ = (
        UniqueConstraint(*_KEY, name="uq_usage_day_part_key", postgresql_nulls_not_distinct=True),
        Index("ix_usage_day_part_day", "day"),
        {"postgresql_partition_by": "HASH (organization_id)"},
    )
    __mapper_args__ = {"primary_key": _KEY}

    organization_id: Mapped[UUID]
    day: Mapped[date]
    project_id: Mapped[UUID | None]
    api_key_id: Mapped[UUID | None]
    revision_id: Mapped[UUID | None]
    provider_id: Mapped[UUID | None]
