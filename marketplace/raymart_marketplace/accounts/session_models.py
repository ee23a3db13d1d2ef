"""Tables of sessions: what a log-in opens and a refresh token keeps alive."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum

USER_AGENT_CHARACTERS_MAX = 200


class LoginMethod(StrEnum):
    """How a person proved who they are."""

    PASSWORD = "password"
    OIDC = "oidc"
    """An OpenID provider vouched for them."""
    WALLET = "wallet"
    """They signed with their Solana key."""


class SessionEnd(StrEnum):
    """Why a session was revoked."""

    LOGOUT = "logout"
    REVOKED = "revoked"
    """Its owner ended it from elsewhere."""
    REUSE = "reuse"
    """A refresh token was used twice: somebody has a copy."""
    PASSWORD = "password"
    """The password was changed or reset."""
    SECOND_FACTOR = "second_factor"
    """The second factor was switched on or off."""
    OPERATOR = "operator"


class UserSession(Row):
    """A log-in on one device, until it is revoked or `expires_at`. All its refresh tokens are one family."""

    __tablename__ = "user_session"
    __table_args__ = (
        CheckConstraint(f"length(user_agent) <= {USER_AGENT_CHARACTERS_MAX}", name="user_agent_short"),
        CheckConstraint("(revoked_at is null) = (revoked_why is null)", name="revoked_why"),
        Index("ix_user_session_user_id_open", "user_id", "id", postgresql_where=text("revoked_at is null")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    method: Mapped[LoginMethod] = mapped_column(text_enum(LoginMethod))
    user_agent: Mapped[str]
    """What the client called itself, cut to 200 characters; empty when it said nothing."""
    address: Mapped[str]
    """Where it last came from."""
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """Its log-in or last refresh."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """No refresh reaches beyond it."""
    second_factor_at: Mapped[datetime | None]
    """When a second factor was last proven in it."""
    revoked_at: Mapped[datetime | None]
    revoked_why: Mapped[SessionEnd | None] = mapped_column(text_enum(SessionEnd))


class RefreshToken(Base):
    """One link of a session's chain; only its SHA-256 is kept. A used one stays, so that its reuse is noticed."""

    __tablename__ = "refresh_token"
    __table_args__ = (CheckConstraint("length(token_hash) = 32", name="hash_is_sha256"),)

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("user_session.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
