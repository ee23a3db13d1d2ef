"""Tables of oversight. Rows of the first two are history: they are ended, never deleted."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum

REASON_CHARACTERS_MAX = 500
_HAS_REASON = f"length(reason) between 1 and {REASON_CHARACTERS_MAX}"


class SubjectKind(StrEnum):
    """What can be suspended."""

    ORGANIZATION = "organization"
    """Nothing is served to it, whichever key asks."""
    USER = "user"
    """A person who can no longer sign in."""
    PROVIDER = "provider"
    """Gets no new requests, and is not paid."""
    API_KEY = "api_key"
    """One key; unlike revoking, it can be lifted."""


class Suspension(Row):
    """Somebody or something is kept from the market, by a person and for a reason, until a person lifts it."""

    __tablename__ = "suspension"
    __table_args__ = (
        CheckConstraint(_HAS_REASON, name="has_reason"),
        CheckConstraint(
            "(lifted_at is null) = (lifted_by is null) and (lifted_at is null) = (lifted_reason is null)",
            name="lifted_as_a_whole",
        ),
        Index(
            "uq_suspension_standing",
            "kind",
            "subject_id",
            unique=True,
            postgresql_where=text("lifted_at is null"),
        ),
        Index("ix_suspension_organization_id", "organization_id"),
    )

    kind: Mapped[SubjectKind] = mapped_column(text_enum(SubjectKind))
    subject_id: Mapped[UUID]
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    """Whose the subject is; None for a person, who may be in many."""
    reason: Mapped[str]
    """Its members may read it."""
    actor_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    restores: Mapped[str]
    """What the subject was before, and is again when this is lifted: a provider's state, whether a person was enabled."""
    lifted_at: Mapped[datetime | None]
    lifted_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    lifted_reason: Mapped[str | None]


class UsageFlag(Row):
    """Usage that a person does not trust: what was earned by it may not mature while this stands."""

    __tablename__ = "usage_flag"
    __table_args__ = (
        CheckConstraint(_HAS_REASON, name="has_reason"),
        CheckConstraint(
            "(cleared_at is null) = (cleared_by is null) and (cleared_at is null) = (cleared_reason is null)",
            name="cleared_as_a_whole",
        ),
        Index("uq_usage_flag_standing", "usage_id", unique=True, postgresql_where=text("cleared_at is null")),
        Index("ix_usage_flag_provider_id", "provider_id", postgresql_where=text("cleared_at is null")),
        Index("ix_usage_flag_organization_id", "organization_id"),
    )

    usage_id: Mapped[UUID]
    """The usage record, hence the request. No foreign key: see `metering.models`."""
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    reason: Mapped[str]
    actor_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    cleared_at: Mapped[datetime | None]
    cleared_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    cleared_reason: Mapped[str | None]


class SwitchState(StrEnum):
    """For whom a feature is on."""

    OFF = "off"
    ON = "on"
    PERCENTAGE = "percentage"
    """For a share of the organizations, always the same ones."""
    ORGANIZATIONS = "organizations"
    """For those that are named."""


class FeatureSwitch(Base):
    """A feature that can be switched while processes run. Which there are is decided by the code (`switches`)."""

    __tablename__ = "feature_switch"
    __table_args__ = (CheckConstraint("percentage between 0 and 100", name="percentage_in_range"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[SwitchState] = mapped_column(text_enum(SwitchState))
    percentage: Mapped[int] = mapped_column(SmallInteger)
    """Counts in the state `percentage` only."""
    organization_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    """Counts in the state `organizations` only."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
