"""Invitations to an organization, and the platform's looks into one."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.base import Row, text_enum


class Invitation(Row):
    """A role in an organization, offered to an e-mail address. The token in the mail works once, until `expires_at`."""

    __tablename__ = "invitation"
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint("length(token_hash) = 32", name="hash_is_sha256"),
        CheckConstraint("accepted_at is null or revoked_at is null", name="ends_once"),
        Index(
            "uq_invitation_open",
            "organization_id",
            "email",
            unique=True,
            postgresql_where=text("accepted_at is null and revoked_at is null"),
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    email: Mapped[str]
    role: Mapped[Role] = mapped_column(text_enum(Role))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    invited_by: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    """By somebody, or by a newer invitation to the same address."""
    sent_at: Mapped[datetime | None]


class SupportAccess(Row):
    """One of the platform's support looking into one organization, for a reason and for hours."""

    __tablename__ = "support_access"
    __table_args__ = (
        CheckConstraint("length(reason) between 1 and 500", name="has_reason"),
        CheckConstraint(
            "expires_at > created_at and expires_at <= created_at + interval '8 hours'", name="is_short"
        ),
        Index(
            "uq_support_access_open",
            "user_id",
            "organization_id",
            unique=True,
            postgresql_where=text("closed_at is null"),
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), index=True
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    reason: Mapped[str]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
