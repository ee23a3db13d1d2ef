"""Tables of supply."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class ProviderState(StrEnum):
    """applied -> active -> suspended -> closed."""

    APPLIED = "applied"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class PoolKind(StrEnum):
    """Who is inside a pool's trust domain."""

    HOUSE = "house"
    """One Ray cluster of verified providers on a private network."""
    PROVIDER = "provider"
    """One provider's own cluster."""


class NodeState(StrEnum):
    """enrolled -> benchmarking -> ready <-> draining -> offline -> retired."""

    ENROLLED = "enrolled"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    DRAINING = "draining"
    OFFLINE = "offline"
    RETIRED = "retired"


class NodeRole(StrEnum):
    """What a key holder does."""

    NODE = "node"
    """Runs replicas and tunnels inference."""
    CONTROLLER = "controller"
    """Applies a pool's placements beside its Ray head."""


class OfferState(StrEnum):
    """open -> paused -> closed."""

    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class PlacementState(StrEnum):
    """requested -> placing -> running -> draining -> gone; failed carries a reason."""

    REQUESTED = "requested"
    PLACING = "placing"
    RUNNING = "running"
    FAILED = "failed"
    DRAINING = "draining"
    GONE = "gone"


class Provider(Row):
    """An organization that sells inference."""

    __tablename__ = "provider"

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), unique=True
    )
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[ProviderState] = mapped_column(text_enum(ProviderState))


class Pool(Row):
    """One Ray cluster and one trust domain."""

    __tablename__ = "pool"
    __table_args__ = (
        CheckConstraint("(kind = 'provider') = (provider_id is not null)", name="provider_pool_has_owner"),
    )

    slug: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[PoolKind] = mapped_column(text_enum(PoolKind))
    region: Mapped[str]
    provider_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    """Owner of a provider pool; none for the house pool."""


class JoinToken(Row):
    """A one-time token that turns a machine into a node. Only its SHA-256 is kept; at most one hour old."""

    __tablename__ = "join_token"
    __table_args__ = (
        CheckConstraint("expires_at <= created_at + interval '1 hour'", name="short_lived"),
        CheckConstraint("role = 'controller' or provider_id is not null", name="node_has_provider"),
    )

    token_hash: Mapped[bytes] = mapped_column(unique=True)
    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    role: Mapped[NodeRole] = mapped_column(text_enum(NodeRole))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Node(Row):
    """A machine with a key of its own (or a pool controller, `role`)."""

    __tablename__ = "node"
    __table_args__ = (
        # Only among living nodes: a revoked node's name may be taken by its successor.
        Index(
            "uq_node_living_name", "pool_id", "name", unique=True, postgresql_where=text("revoked_at is null")
        ),
        Index("ix_node_living_machine", "machine_id", postgresql_where=text("revoked_at is null")),
        CheckConstraint("length(public_key) = 32", name="key_is_ed25519"),
        CheckConstraint("role = 'controller' or provider_id is not null", name="node_has_provider"),
    )

    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("provider.id", ondelete="RESTRICT"), index=True
    )
    role: Mapped[NodeRole] = mapped_column(text_enum(NodeRole))
    name: Mapped[str]
    """Unique among the living nodes of the pool; the Ray label `raymart.io/node`."""
    public_key: Mapped[bytes] = mapped_column(unique=True)
    join_token_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("join_token.id", ondelete="RESTRICT"), unique=True
    )
    """What it enrolled with. Unique: even without the check in `enrolment` a token could make one node only."""
    machine_id: Mapped[str]
    hardware: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[NodeState] = mapped_column(text_enum(NodeState))
    last_seen_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Offer(Row):
    """A provider's ask for one revision, in nano-USD per unit."""

    __tablename__ = "offer"
    __table_args__ = (
        CheckConstraint("ask_prompt_nano_usd >= 0 and ask_completion_nano_usd >= 0", name="ask_not_negative"),
        CheckConstraint("(succeeded_by is null) = (succeeded_at is null)", name="succeeded_at_a_time"),
        Index("ix_offer_succeeded_by", "succeeded_by", postgresql_where=text("succeeded_by is not null")),
        Index(
            "uq_offer_open",
            "provider_id",
            "revision_id",
            unique=True,
            postgresql_where=text("state <> 'closed'"),
        ),
    )

    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    revision_id: Mapped[UUID] = mapped_column(
        ForeignKey("model_revision.id", ondelete="RESTRICT"), index=True
    )
    ask_prompt_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    """Per prompt token, outside of windows; None for the rate card's price. A copy of `offer_ask`, for listings."""
    ask_completion_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    """Per completion token, likewise."""
    state: Mapped[OfferState] = mapped_column(text_enum(OfferState))
    succeeded_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("offer.id", ondelete="RESTRICT"), sort_order=1
    )
    """The offer of a newer (or older) revision that takes its place (`supply.rollouts`); placements follow that one."""
    succeeded_at: Mapped[datetime | None] = mapped_column(sort_order=1)


class Placement(Row):
    """A revision that should run on a node, with the range of replicas Serve may choose from."""

    __tablename__ = "placement"
    __table_args__ = (
        UniqueConstraint("node_id", "revision_id"),
        CheckConstraint(
            "0 <= replicas_min and replicas_min <= replicas_max and replicas_max >= 1", name="range"
        ),
        CheckConstraint("slots >= 1", name="slots_positive"),
    )

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    revision_id: Mapped[UUID] = mapped_column(
        ForeignKey("model_revision.id", ondelete="RESTRICT"), index=True
    )
    replicas_min: Mapped[int]
    replicas_max: Mapped[int]
    slots: Mapped[int]
    """Generations at once per replica."""
    desired: Mapped[bool] = mapped_column(default=True)
    """False once the placement should be gone."""
    state: Mapped[PlacementState] = mapped_column(text_enum(PlacementState))
    replicas_running: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(default="")


class Endpoint(Row):
    """What can be routed to: a node's offer of a revision. Liveness is kept in memory, from the links."""

    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("node_id", "revision_id"),)

    node_id: Mapped[UUID] = mapped_column(ForeignKey("node.id", ondelete="RESTRICT"))
    revision_id: Mapped[UUID] = mapped_column(
        ForeignKey("model_revision.id", ondelete="RESTRICT"), index=True
    )
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("offer.id", ondelete="RESTRICT"))
    first_announced_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
