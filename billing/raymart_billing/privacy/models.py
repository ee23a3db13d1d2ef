"""Table of the copies that organizations asked for of what is their own."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class ExportState(StrEnum):
    """How far an export has come."""

    REQUESTED = "requested"
    """A worker writes it, or will."""
    READY = "ready"
    """The file can be downloaded."""
    FAILED = "failed"
    """It could not be written, whatever was tried."""
    EXPIRED = "expired"
    """The file is deleted: its time is over, or a newer export has taken its place."""


class PrivacyExport(Row):
    """One export; its file is `exports/<id>.zip` in the data folder."""

    __tablename__ = "privacy_export"
    __table_args__ = (
        CheckConstraint(
            "state not in ('ready', 'expired') or (bytes is not null and expires_at is not null)",
            name="ready_has_a_file",
        ),
        CheckConstraint("bytes > 0", name="bytes_positive"),
        Index("ix_privacy_export_organization_id_id", "organization_id", "id"),
        Index(
            "uq_privacy_export_requested",
            "organization_id",
            unique=True,
            postgresql_where=text("state = 'requested'"),
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    requested_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    state: Mapped[ExportState] = mapped_column(text_enum(ExportState))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]


class OrganizationErasure(Row):
    """The end of an organization, as it was asked for. Done, it stays; migration 0030 guards that."""

    __tablename__ = "organization_erasure"
    __table_args__ = (
        CheckConstraint("cancelled_at is null or erased_at is null", name="ends_once"),
        CheckConstraint("erased_at >= due_at", name="not_before_due"),
        Index(
            "uq_organization_erasure_standing",
            "organization_id",
            unique=True,
            postgresql_where=text("cancelled_at is null"),
        ),
        Index(
            "ix_organization_erasure_open",
            "due_at",
            postgresql_where=text("cancelled_at is null and erased_at is null"),
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    requested_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """None for an operator."""
    due_at: Mapped[datetime]
    """Until then it can be cancelled."""
    waits_for: Mapped[str | None]
    """What was in the way when it was last tried; it is tried again every day."""
    cancelled_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
