"""What became of providers and their machines: histories, maintenance, how a machine stands, an application."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.enums import ActorKind, NodeState, ProviderState, expose
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import BigInt
from raymart_marketplace.supply import life_models, models
from raymart_marketplace.supply.life_models import MaintenanceState, NodeEventKind, ProviderEventKind
from raymart_marketplace.supply.presence import SKEW_MS_MAX, is_skewed

expose(
    NodeEventKind,
    name="ProviderNodeEventKind",
    description="What happened to a machine.",
    values={
        "ENROLLED": "It spent a join token for a key of its own.",
        "LINKED": "Its link came up, for the first time or after it was missed.",
        "LINK_LOST": "Its link was gone for longer than the grace.",
        "BENCHMARK_STARTED": "It is being measured.",
        "BENCHMARK_PASSED": "It is as good as it says.",
        "BENCHMARK_FAILED": "It is not; the reason names the checks.",
        "DRAINED": "Somebody wants no new requests there.",
        "RESUMED": "It gets requests again.",
        "RETIRED": "Its key was revoked.",
        "KEY_ROTATED": "It replaced its key.",
        "HARDWARE_CHANGED": "It announced other hardware than before.",
        "CLOCK_SKEWED": "Its clock went far from the marketplace's.",
    },
)
expose(
    ProviderEventKind,
    name="ProviderEventKind",
    description="What happened to a provider.",
    values={
        "APPLIED": "It asked to sell.",
        "APPROVED": "It may sell.",
        "DECLINED": "Its application was turned down.",
        "SUSPENDED": "It may not sell for now.",
        "REINSTATED": "Its suspension ended.",
        "CLOSED": "It sells no more.",
        "CONTACT_NAMED": "It named an address to reach it by.",
        "CONTACT_VERIFIED": "Whoever reads mail there confirmed it.",
    },
)
expose(
    MaintenanceState,
    name="MaintenanceState",
    description="Where a maintenance window stands.",
    values={
        "PLANNED": "To come.",
        "STARTED": "The machine drains, or is being worked on.",
        "ENDED": "Over.",
        "CANCELLED": "Called off.",
    },
)


@strawberry.type(description="One line of a machine's history.")
class ProviderNodeEvent:
    """Never changed."""

    event: NodeEventKind = strawberry.field(description="What happened.")
    from_state: NodeState = strawberry.field(description="Where the machine stood.")
    to_state: NodeState = strawberry.field(description="Where it stood then.")
    reason: str = strawberry.field(description="Why; empty where nobody said.")
    actor_kind: ActorKind = strawberry.field(description="What kind of actor did it.")
    created_at: datetime = strawberry.field(description="When.")

    @classmethod
    def of(cls, row: life_models.NodeEvent) -> "ProviderNodeEvent":
        """`row` as the API shows it."""
        return cls(
            event=row.event,
            from_state=row.from_state,
            to_state=row.to_state,
            reason=row.reason,
            actor_kind=row.actor_kind,
            created_at=row.created_at,
        )


@strawberry.type(description="One line of a provider's history.")
class ProviderEvent:
    """Never changed."""

    event: ProviderEventKind = strawberry.field(description="What happened.")
    from_state: ProviderState = strawberry.field(description="Where the provider stood.")
    to_state: ProviderState = strawberry.field(description="Where it stood then.")
    reason: str = strawberry.field(description="Why; empty where nobody said.")
    actor_kind: ActorKind = strawberry.field(description="What kind of actor did it.")
    created_at: datetime = strawberry.field(description="When.")

    @classmethod
    def of(cls, row: life_models.ProviderEvent) -> "ProviderEvent":
        """`row` as the API shows it."""
        return cls(
            event=row.event,
            from_state=row.from_state,
            to_state=row.to_state,
            reason=row.reason,
            actor_kind=row.actor_kind,
            created_at=row.created_at,
        )


@strawberry.type(description="A time in which a machine takes no requests; it starts and ends by itself.")
class MaintenanceWindow:
    """Planned by the provider."""

    id: strawberry.ID = strawberry.field(description="What cancelMaintenance takes.")
    starts_at: datetime = strawberry.field(description="When the machine is to be free.")
    ends_at: datetime = strawberry.field(description="When it takes requests again.")
    notice_seconds: int = strawberry.field(
        description="So long before the start it gets its last new request."
    )
    reason: str = strawberry.field(description="Why; empty where nobody said.")
    state: MaintenanceState = strawberry.field(description="Where it stands.")

    @classmethod
    def of(cls, row: life_models.MaintenanceWindow) -> "MaintenanceWindow":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.MAINTENANCE, row.id),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            notice_seconds=row.notice_s,
            reason=row.reason,
            state=row.state,
        )


@strawberry.type(description="How a machine stands at this moment, besides its state.")
class NodeStanding:
    """From its row."""

    linked: bool = strawberry.field(description="Whether its link is up.")
    link_lost_at: datetime | None = strawberry.field(
        description="Since when its link is missed; null while it is up, and before the first time."
    )
    qualified_at: datetime | None = strawberry.field(
        description="Since when it may serve; null until it has passed what is asked of it."
    )
    drain_until: datetime | None = strawberry.field(
        description="What runs on a draining machine then may be cut; null where nobody said."
    )
    clock_skew_ms: BigInt | None = strawberry.field(
        description="How far its clock is ahead of the marketplace's, in milliseconds; null before its first word."
    )
    clock_warning: str | None = strawberry.field(
        description="What to do about its clock; null while it is right."
    )

    @classmethod
    def of(cls, row: models.Node) -> "NodeStanding":
        """`row` as the API shows it."""
        skew_ms = row.clock_skew_ms
        return cls(
            linked=row.link_id is not None,
            link_lost_at=row.link_lost_at,
            qualified_at=row.qualified_at,
            drain_until=row.drain_until,
            clock_skew_ms=BigInt(skew_ms) if skew_ms is not None else None,
            clock_warning=_CLOCK_WARNING if skew_ms is not None and is_skewed(skew_ms) else None,
        )


@strawberry.type(description="What a provider applied with, and what is known of it.")
class ProviderApplication:
    """For its members and the marketplace's people."""

    provider_uuid: strawberry.Private[UUID]
    website: str = strawberry.field(description="Where to read about it; empty where it named none.")
    about: str = strawberry.field(description="What it offers, in its own words.")
    contact_email: str | None = strawberry.field(
        description="Where it is reached; null until whoever reads mail there has confirmed it."
    )
    contact_verified_at: datetime | None = strawberry.field(description="When that was; null before.")
    created_at: datetime = strawberry.field(description="When it applied.")

    @classmethod
    def of(cls, row: models.Provider) -> "ProviderApplication":
        """`row` as the API shows it."""
        return cls(
            provider_uuid=row.id,
            website=row.website,
            about=row.about,
            contact_email=row.contact_email,
            contact_verified_at=row.contact_verified_at,
            created_at=row.created_at,
        )


_CLOCK_WARNING = (
    f"its clock is more than {SKEW_MS_MAX // 1000} s from the marketplace's; let it follow an NTP server"
)
