"""Mails about a person's account, each with what it lets the reader do."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class MailKind(StrEnum):
    """What a mail is about."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"
    ADDRESS_TAKEN = "address_taken"
    """Somebody signed up with the address of an account; told to its owner alone."""
    PASSWORD_CHANGED = "password_changed"
    SECOND_FACTOR_CHANGED = "second_factor_changed"


class AccountMail(Row):
    """A mail to a user. The token in it is good once and until `expires_at`; only its SHA-256 is kept."""

    __tablename__ = "account_mail"
    __table_args__ = (
        CheckConstraint("length(token_hash) = 32", name="hash_is_sha256"),
        CheckConstraint("(token_hash is null) = (expires_at is null)", name="token_expires"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"), index=True)
    kind: Mapped[MailKind] = mapped_column(text_enum(MailKind))
    token_hash: Mapped[bytes | None] = mapped_column(unique=True)
    """Null for a mail that only tells."""
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """When its token was used, or voided by a newer fact."""
    sent_at: Mapped[datetime | None]
