"""The table of limits that somebody has set. What nobody has set is the operator's default, or no limit."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum
from raymart_marketplace.gateway.rate_limits.limits import (
    CONCURRENT_MAX,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
    Level,
)


class LimitSetter(StrEnum):
    """Who set it. Of both the lower binds; each changes their own only."""

    CUSTOMER = "customer"
    """The organization itself, to keep a key or a project small."""
    MARKETPLACE = "marketplace"
    """In the place of the operator's default, for one organization."""


class RateLimit(Base):
    """What one organization, project or key may do. A row without any limit was removed, which processes have to hear of."""

    __tablename__ = "rate_limit"
    __table_args__ = (
        CheckConstraint(
            "scope <> 'organization' or scope_id = organization_id", name="organization_is_scope"
        ),
        CheckConstraint(
            "setter <> 'marketplace' or scope = 'organization'", name="marketplace_limits_organizations"
        ),
        CheckConstraint(
            f"requests_per_minute between 1 and {REQUESTS_PER_MINUTE_MAX} and tokens_per_minute between 1 and {TOKENS_PER_MINUTE_MAX}"
            f" and concurrent_requests between 1 and {CONCURRENT_MAX}",
            name="in_range",
        ),
        Index("ix_rate_limit_organization_id", "organization_id"),
        Index("ix_rate_limit_updated_at", "updated_at"),
    )

    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Organization, project or key, by `scope`."""
    setter: Mapped[LimitSetter] = mapped_column(text_enum(LimitSetter), primary_key=True)
    scope: Mapped[Level] = mapped_column(text_enum(Level))
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    concurrent_requests: Mapped[int | None]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    """Who changed it last."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
