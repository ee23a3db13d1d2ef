"""Tables of second factors."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row


class TotpCredential(Base):
    """A person's authenticator app. Counts once it is confirmed."""

    __tablename__ = "totp_credential"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    secret_sealed: Mapped[bytes]
    """By `sealing.SecretBox`, for this user."""
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The newest step whose code was used; no code of it or before is accepted again."""


class RecoveryCode(Row):
    """A code for when the app is lost, good once. Only its SHA-256 is kept: it has 80 random bits."""

    __tablename__ = "recovery_code"
    __table_args__ = (
        UniqueConstraint("user_id", "code_hash"),
        CheckConstraint("length(code_hash) = 32", name="hash_is_sha256"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    code_hash: Mapped[bytes]
    used_at: Mapped[datetime | None]
