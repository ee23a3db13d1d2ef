"""Tables of the audit log, for reading: only the functions of migration 0019 write them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    String,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum


class ActorKind(StrEnum):
    """Who acted."""

    USER = "user"
    """A person with an access token."""
    API_KEY = "api_key"
    SERVICE_ACCOUNT = "service_account"
    NODE = "node"
    """A machine with its node key."""
    OPERATOR = "operator"
    """Somebody at the `raymart` command line; the name is that of the operating system's user."""
    SYSTEM = "system"
    """The marketplace itself, on behalf of what the name says, such as an event of the card processor."""
    ANONYMOUS = "anonymous"
    """Nobody yet: who signs up."""


class AuditOutcome(StrEnum):
    """What became of it."""

    DONE = "done"
    """Committed together with its entry."""
    REFUSED = "refused"
    """A known actor was not allowed to. At most 20 an hour are kept of one actor."""


class AuditEntry(Base):
    """One act: a transaction that changed something, or a refusal."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        CheckConstraint(
            "(actor_kind in ('user', 'api_key', 'service_account', 'node')) = (actor_id is not null)"
            " and (actor_kind in ('operator', 'system')) = (actor_name is not null)",
            name="actor_is_named",
        ),
        CheckConstraint("(subject_kind is null) = (subject_id is null)", name="subject_is_whole"),
        CheckConstraint("length(detail::text) <= 20000", name="detail_length"),
        CheckConstraint("cardinality(mentions) <= 100", name="mentions_length"),
        Index("ix_audit_entry_xact_id_id", "xact_id", "id"),
        Index("ix_audit_entry_organization_id_id", "organization_id", "id"),
        Index("ix_audit_entry_actor_id_id", "actor_id", "id"),
        Index("ix_audit_entry_action_id", "action", "id"),
        Index("ix_audit_entry_created_at", "created_at"),
        Index("ix_audit_entry_mentions", "mentions", postgresql_using="gin"),
        Index(
            "ix_audit_entry_refused", "actor_id", "created_at", postgresql_where=text("outcome = 'refused'")
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    xact_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("((pg_current_xact_id())::text)::bigint")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor_kind: Mapped[ActorKind] = mapped_column(text_enum(ActorKind))
    actor_id: Mapped[UUID | None]
    """Of the user, key, service account or node."""
    actor_name: Mapped[str | None] = mapped_column(String(100))
    """Of an operator or a part of the marketplace."""
    acting_organization_id: Mapped[UUID | None]
    """In whose role the actor acted."""
    organization_id: Mapped[UUID | None]
    """Whose things were changed."""
    session_id: Mapped[UUID | None]
    request_id: Mapped[UUID | None]
    """The HTTP request's, as logs and the response's header have it."""
    action: Mapped[str] = mapped_column(String(100))
    """The mutation's name, or the command's."""
    subject_kind: Mapped[str | None] = mapped_column(String(32))
    """Prefix of the subject's id as people see it, such as "key"."""
    subject_id: Mapped[UUID | None]
    mentions: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    outcome: Mapped[AuditOutcome] = mapped_column(text_enum(AuditOutcome))
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """`input`: what was asked, without secrets and free text; `changes`: rows, as far as they are known."""
    origin_digest: Mapped[bytes | None]


class AuditOrigin(Base):
    """Where an act came from; forgotten when the person or the organization is erased."""

    __tablename__ = "audit_origin"

    entry_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("audit_entry.id"), primary_key=True, autoincrement=False
    )
    salt: Mapped[bytes]
    address: Mapped[str | None] = mapped_column(String(64))
    user_agent: Mapped[str | None] = mapped_column(String(300))


class AuditSeal(Base):
    """One link of the chain over all entries, in the order in which they became certain."""

    __tablename__ = "audit_seal"
    __table_args__ = (
        CheckConstraint("position > 0", name="position_positive"),
        CheckConstraint("length(hash) = 32", name="hash_is_sha256"),
    )

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    hash: Mapped[bytes]
    """HMAC-SHA256 of the hash before and the entry's columns; see `raymart_billing.audit.seal`."""
