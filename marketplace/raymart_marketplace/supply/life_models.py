"""Tables of what happened to providers and their machines, and of what is planned for these."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.audit.models import ActorKind
from raymart_marketplace.db.base import Row, text_enum
from raymart_marketplace.supply.models import NodeState, ProviderState


class NodeEventKind(StrEnum):
    """What happens to a node. The first ones may change its state, by `supply.node_life.TRANSITIONS`."""

    LINKED = "linked"
    """Its link is up again after it was missed, or for the first time."""
    LINK_LOST = "link_lost"
    """Its link was gone for longer than the grace."""
    BENCHMARK_STARTED = "benchmark_started"
    BENCHMARK_PASSED = "benchmark_passed"
    BENCHMARK_FAILED = "benchmark_failed"
    DRAINED = "drained"
    """Somebody wants no new requests there."""
    RESUMED = "resumed"
    RETIRED = "retired"
    """Its key was revoked."""
    ENROLLED = "enrolled"
    KEY_ROTATED = "key_rotated"
    HARDWARE_CHANGED = "hardware_changed"
    CLOCK_SKEWED = "clock_skewed"
    """Its clock went further from ours than is tolerated without a word."""


class NodeEvent(Row):
    """One line of a node's history. Never changed."""

    __tablename__ = "node_event"
    __table_args__ = (
        Index("ix_node_event_node_id_id", "node_id", "id"),
        CheckConstraint("length(reason) <= 500", name="reason_is_short"),
    )

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    event: Mapped[NodeEventKind] = mapped_column(text_enum(NodeEventKind))
    from_state: Mapped[NodeState] = mapped_column(text_enum(NodeState, name="from_state"))
    to_state: Mapped[NodeState] = mapped_column(text_enum(NodeState, name="to_state"))
    reason: Mapped[str]
    actor_kind: Mapped[ActorKind] = mapped_column(text_enum(ActorKind))
    actor_id: Mapped[UUID | None]
    """Who: a user, a key, a node; none for the marketplace itself."""


class ProviderEventKind(StrEnum):
    """What happens to a provider. Some change its state, by `supply.provider_life.TRANSITIONS`."""

    APPLIED = "applied"
    APPROVED = "approved"
    DECLINED = "declined"
    """Its application was turned down, with a reason."""
    SUSPENDED = "suspended"
    REINSTATED = "reinstated"
    CLOSED = "closed"
    CONTACT_NAMED = "contact_named"
    """An address to reach it by; whoever reads mail there confirms it."""
    CONTACT_VERIFIED = "contact_verified"


class ProviderEvent(Row):
    """One line of a provider's history. Never changed."""

    __tablename__ = "provider_event"
    __table_args__ = (
        Index("ix_provider_event_provider_id_id", "provider_id", "id"),
        CheckConstraint("length(reason) <= 500", name="reason_is_short"),
    )

    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    event: Mapped[ProviderEventKind] = mapped_column(text_enum(ProviderEventKind))
    from_state: Mapped[ProviderState] = mapped_column(text_enum(ProviderState, name="from_state"))
    to_state: Mapped[ProviderState] = mapped_column(text_enum(ProviderState, name="to_state"))
    reason: Mapped[str]
    actor_kind: Mapped[ActorKind] = mapped_column(text_enum(ActorKind))
    actor_id: Mapped[UUID | None]


class ProviderContact(Row):
    """An address that a provider named, with the mail that lets its reader confirm it. The newest one counts."""

    __tablename__ = "provider_contact"
    __table_args__ = (
        Index("ix_provider_contact_provider_id_id", "provider_id", "id"),
        CheckConstraint("length(token_hash) = 32", name="hash_is_sha256"),
    )

    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    email: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    """Of the token in the mail, good once and until `expires_at`."""
    expires_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]


class MaintenanceState(StrEnum):
    """planned -> started -> ended; cancelled at any time before the end."""

    PLANNED = "planned"
    STARTED = "started"
    """The node drains, or is being worked on."""
    ENDED = "ended"
    CANCELLED = "cancelled"


class MaintenanceWindow(Row):
    """A time in which a node takes no requests, planned by its provider; it starts and ends by itself."""

    __tablename__ = "maintenance_window"
    __table_args__ = (
        Index("ix_maintenance_window_node_id_id", "node_id", "id"),
        Index(
            "ix_maintenance_window_due",
            "state",
            "starts_at",
            postgresql_where=text("state in ('planned', 'started')"),
        ),
        CheckConstraint("starts_at < ends_at", name="ends_after_start"),
        CheckConstraint("notice_s between 0 and 86400", name="notice_at_most_a_day"),
        CheckConstraint("length(reason) <= 500", name="reason_is_short"),
    )

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    notice_s: Mapped[int]
    """So long before the start the node gets its last new request."""
    reason: Mapped[str]
    state: Mapped[MaintenanceState] = mapped_column(text_enum(MaintenanceState))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
