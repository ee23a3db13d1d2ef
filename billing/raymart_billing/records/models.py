"""Tables of usage that is not recorded yet: checkpoints of running streams, and records that could not become rows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum


class RecordOrigin(StrEnum):
    """Where a record was kept before it was set aside."""

    STREAM = "stream"
    """The Redis stream."""
    FILE = "file"
    """A gateway's append-only file."""
    CHECKPOINT = "checkpoint"
    """A running stream's checkpoint."""


class UsageCheckpoint(Base):
    """What to record of a running stream if its gateway dies now."""

    __tablename__ = "usage_checkpoint"

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    gateway_id: Mapped[UUID]
    record: Mapped[bytes]
    """As `codec.encode` wrote it."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class UsageSetAside(Base):
    """A spilled or checkpointed record that could not become rows, until somebody decides what becomes of it."""

    __tablename__ = "usage_set_aside"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    """SHA-256 of `record`: set aside once, however often it is drained."""
    request_id: Mapped[UUID | None]
    """None when not even that could be read."""
    origin: Mapped[RecordOrigin] = mapped_column(text_enum(RecordOrigin))
    reason: Mapped[str]
    record: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    resolved_at: Mapped[datetime | None]
