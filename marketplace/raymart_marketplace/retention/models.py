"""Table of what is kept of prompts and completions, encrypted."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base

RETENTION_DAYS_MAX = 30


class RetainedExchange(Base):
    """Prompt and completion of one request, for as long as its key asked when it was stored."""

    __tablename__ = "retained_exchange"
    __table_args__ = (
        CheckConstraint(
            f"expires_at <= created_at + interval '{RETENTION_DAYS_MAX} days'", name="expires_soon"
        ),
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Of `request`, without a foreign key: that row may be written a moment later."""
    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), index=True
    )
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id", ondelete="RESTRICT"), index=True)
    sealed: Mapped[bytes]
    """An `Exchange` in JSON, sealed for this request alone."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """Nobody can read it from then on, and within minutes it is deleted."""
