"""Tables of what machines have, what was measured of them, and how they were doing by the hour."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum


class BenchmarkState(StrEnum):
    """requested -> running -> passed or failed; lost when the link or the process went."""

    REQUESTED = "requested"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    LOST = "lost"


class BenchmarkCause(StrEnum):
    """Why a machine is measured."""

    NEW = "new"
    """It was never measured."""
    CHANGED = "changed"
    """Its hardware is not what was measured."""
    AGAIN = "again"
    """The last one failed or was lost."""
    ASKED = "asked"
    """Somebody wants it."""


class Gpu(Row):
    """A card that a node announced. It stays listed when it is gone."""

    __tablename__ = "gpu"
    __table_args__ = (UniqueConstraint("node_id", "uuid"), Index("ix_gpu_uuid", "uuid"))

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    uuid: Mapped[str]
    """The driver's id of the card."""
    model: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    driver: Mapped[str]
    compute_capability: Mapped[str]
    multiprocessors: Mapped[int]
    ecc: Mapped[bool | None]
    mig: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """Slices, as `wire.link.MigSlice`."""
    gone_at: Mapped[datetime | None]
    """Since when the node announces it no more."""


class Benchmark(Row):
    """One measurement of a machine, asked for or done."""

    __tablename__ = "benchmark"
    __table_args__ = (
        Index("ix_benchmark_node_id_id", "node_id", "id"),
        # One at a time: a second request of a node finds this one.
        Index(
            "uq_benchmark_open",
            "node_id",
            unique=True,
            postgresql_where=text("state in ('requested', 'running')"),
        ),
        CheckConstraint(
            "(finished_at is null) = (state in ('requested', 'running'))", name="finished_at_its_end"
        ),
    )

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    state: Mapped[BenchmarkState] = mapped_column(text_enum(BenchmarkState))
    cause: Mapped[BenchmarkCause] = mapped_column(text_enum(BenchmarkCause))
    asked_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    hardware_digest: Mapped[str]
    """Of what was measured (`records.hardware_digest`); empty while it is only requested."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class BenchmarkCheck(Base):
    """What one check of a benchmark found."""

    __tablename__ = "benchmark_check"
    __table_args__ = (
        CheckConstraint("passed = (reason is null)", name="reason_of_failure"),
        CheckConstraint("length(message) <= 500", name="message_is_short"),
    )

    benchmark_id: Mapped[UUID] = mapped_column(
        ForeignKey("benchmark.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    check_name: Mapped[str]
    device: Mapped[str]
    value: Mapped[float | None]
    limit_value: Mapped[float | None]
    passed: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(String(64))
    """A `rules.Reason`. Without a CHECK: rules come and go, and what was found once stays."""
    message: Mapped[str]


class NodeTelemetry(Base):
    """One hour of a machine, or of one of its GPUs: sums over samples of ten seconds, and extremes."""

    __tablename__ = "node_telemetry"
    __table_args__ = (
        Index("ix_node_telemetry_hour", "hour"),
        CheckConstraint("samples > 0", name="has_samples"),
    )

    node_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    """UUID of the GPU; empty for the machine."""
    minute: Mapped[int] = mapped_column(BigInteger)
    """The last minute that is in the sums, since 1970: a minute is added once."""
    samples: Mapped[int]
    utilisation_sum: Mapped[float]
    """Of percent, of all cores or of the GPU."""
    utilisation_max: Mapped[float]
    memory_used_sum: Mapped[float]
    """Of bytes."""
    memory_used_max: Mapped[float]
    temperature_max: Mapped[float | None]
    power_sum: Mapped[float | None]
    """Of watts."""
    disk_free_min: Mapped[float | None]
    """In bytes."""
    ecc_uncorrected: Mapped[int | None] = mapped_column(BigInteger)
    """The last count."""
