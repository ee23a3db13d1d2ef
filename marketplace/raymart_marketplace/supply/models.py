"""Tables of supply."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    TEXT,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum
from raymart_marketplace.supply.trust import DataPolicy


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


class Warmth(StrEnum):
    """Whether replicas of an offer are loaded before anybody asks."""

    WARM = "warm"
    """One at least, always."""
    AUTO = "auto"
    """One while the model was asked for lately, else none until it is asked for."""
    ON_DEMAND = "on_demand"
    """None until it is asked for."""


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
    """Changed by `supply.provider_life` only."""
    data_policy: Mapped[DataPolicy] = mapped_column(
        text_enum(DataPolicy), default=DataPolicy.UNSTATED, server_default=DataPolicy.UNSTATED.value
    )
    """What it says that becomes of prompts and answers; customers may ask for it."""
    website: Mapped[str] = mapped_column(server_default="", sort_order=1)
    about: Mapped[str] = mapped_column(server_default="", sort_order=1)
    """What it offers, in its own words to the marketplace."""
    contact_email: Mapped[str | None] = mapped_column(sort_order=1)
    """Where somebody reads mail and confirmed it, at `contact_verified_at`."""
    contact_verified_at: Mapped[datetime | None] = mapped_column(sort_order=1)


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
        Index("ix_join_token_unused", "provider_id", "id", postgresql_where=text("used_at is null")),
    )

    token_hash: Mapped[bytes] = mapped_column(unique=True)
    pool_id: Mapped[UUID] = mapped_column(ForeignKey("pool.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    role: Mapped[NodeRole] = mapped_column(text_enum(NodeRole))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="RESTRICT"))
    expires_at: Mapped[datetime]
    """Its revocation brings this forward."""
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
        Index(
            "ix_node_absent",
            "last_seen_at",
            postgresql_where=text("state in ('enrolled', 'benchmarking', 'ready')"),
        ),
        Index(
            "ix_node_living_gpus",
            "gpu_uuids",
            postgresql_using="gin",
            postgresql_where=text("revoked_at is null"),
        ),
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
    gpu_uuids: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}", sort_order=1)
    """The drivers' ids of its cards, out of `hardware`, sorted: no card is under two nodes."""
    state: Mapped[NodeState] = mapped_column(text_enum(NodeState))
    """Changed by `supply.node_life` only."""
    last_seen_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    qualified_at: Mapped[datetime | None]
    """Since when it may serve: it passed the benchmark, or none was asked of it."""
    link_id: Mapped[UUID | None]
    """The link that is up, of whichever process; None while none is."""
    link_lost_at: Mapped[datetime | None]
    """Since when its link is missed; None while it is up, and before the first one."""
    clock_skew_ms: Mapped[int | None] = mapped_column(BigInteger)
    """How far its clock is ahead of ours, in milliseconds, by its last word."""
    drain_until: Mapped[datetime | None]
    """What still runs on a draining node then may be cut; None where nobody said."""
    cached: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default=text("'{}'"), sort_order=1)
    """Digests of the revisions whose files it holds, as it announced last; for planning."""
    maintenance_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("maintenance_window.id", ondelete="RESTRICT", use_alter=True)
    )
    """The window that it drains for, and is resumed after; None where somebody drained it by hand."""


class Offer(Row):
    """A provider's ask for one revision, in nano-USD per unit."""

    __tablename__ = "offer"
    __table_args__ = (
        CheckConstraint("ask_prompt_nano_usd >= 0 and ask_completion_nano_usd >= 0", name="ask_not_negative"),
        CheckConstraint("(succeeded_by is null) = (succeeded_at is null)", name="succeeded_at_a_time"),
        CheckConstraint("replicas_max between 1 and 16", name="replicas_max_in_range"),
        CheckConstraint("nodes_max >= 1", name="nodes_max_positive"),
        CheckConstraint("gpus_max >= 0", name="gpus_max_not_negative"),
        CheckConstraint("idle_s between 5 and 86400", name="idle_s_in_range"),
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
    # What the provider chose of where and when it runs: `planning.choices.Choices`.
    warmth: Mapped[Warmth] = mapped_column(
        text_enum(Warmth), default=Warmth.WARM, server_default=Warmth.WARM.value, sort_order=2
    )
    replicas_max: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=2)
    nodes_max: Mapped[int | None] = mapped_column(sort_order=2)
    gpus_max: Mapped[int | None] = mapped_column(sort_order=2)
    idle_s: Mapped[int] = mapped_column(default=300, server_default="300", sort_order=2)
    hours: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'"), sort_order=2
    )
    """`planning.choices.hours_to_json`; empty for always."""
    node_ids: Mapped[list[UUID]] = mapped_column(
        ARRAY(Uuid), default=list, server_default=text("'{}'"), sort_order=2
    )
    """Machines that it may be placed on; empty for all of the provider's."""


class Placement(Row):
    """A revision that should run on a node, with the range of replicas Serve may choose from."""

    __tablename__ = "placement"
    __table_args__ = (
        UniqueConstraint("node_id", "revision_id"),
        CheckConstraint(
            "0 <= replicas_min and replicas_min <= replicas_max and replicas_max >= 1", name="range"
        ),
        CheckConstraint("restarts >= 0", name="restarts_not_negative"),
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
    idle_s: Mapped[int] = mapped_column(default=300, server_default="300", sort_order=1)
    """How long a replica without work stays."""
    memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", sort_order=1)
    """What a replica is estimated to take of the machine's memory (`planning.fit`)."""
    gpus: Mapped[int] = mapped_column(default=0, server_default="0", sort_order=1)
    """Whole GPUs of one replica."""
    state_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=1)
    """Since when it is in its state."""
    confirm_by: Mapped[datetime | None] = mapped_column(sort_order=1)
    """When the reservation ends unless a controller has confirmed it; None once it has."""
    confirmed_at: Mapped[datetime | None] = mapped_column(sort_order=1)
    """When a controller said first that it has it; None before."""
    retry_at: Mapped[datetime | None] = mapped_column(sort_order=1)
    """Until when it is not wanted again, after it was given up."""
    releases: Mapped[int] = mapped_column(default=0, server_default="0", sort_order=1)
    """How often in a row it was given up."""
    cold_start_ms: Mapped[int | None] = mapped_column(sort_order=1)
    """How long the last replica took from being asked for to being ready. Nobody is billed for it."""
    restarts: Mapped[int] = mapped_column(default=0, server_default="0", sort_order=1)
    """Replicas that died, by the pool's controller, since it applied the placement."""


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
