"""Whom an OpenID provider's people are here."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row


class OidcIdentity(Row):
    """One person at one provider, named by (issuer, subject) and by nothing that they could change there."""

    __tablename__ = "oidc_identity"
    __table_args__ = (
        UniqueConstraint("issuer", "subject"),
        UniqueConstraint("user_id", "issuer"),
        CheckConstraint("length(subject) between 1 and 255", name="subject_length"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str | None]
    """What the provider said at the last log-in, for people to recognise it by; nobody is found by it."""
    last_login_at: Mapped[datetime | None]
