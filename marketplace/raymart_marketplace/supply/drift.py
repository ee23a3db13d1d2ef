"""Drift: where a pool is not as the marketplace wants it. The rule is pure; `pool_drift` loads what it looks at."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.supply.membership.labels import HEAD_NAME
from raymart_marketplace.supply.membership.models import PoolStatus
from raymart_marketplace.supply.models import Node, NodeRole, Placement, PlacementState, Pool, PoolKind

REPORT_AGE_MAX = timedelta(seconds=45)
"""A controller reports at least every ten seconds; an older report says nothing of the pool."""
DRIFTS_MAX = 200
"""Of one pool."""
_PLACEMENTS_MAX = 5_000


class DriftKind(StrEnum):
    """What is not as it should be."""

    NO_CONTROLLER = "no_controller"
    """Nobody reports on the pool, so that nothing is applied; what ran runs on."""
    MISSING = "missing"
    """A wanted placement does not run."""
    WRONG_REVISION = "wrong_revision"
    """A revision runs that is not wanted, where another of the same model is."""
    SURPLUS = "surplus"
    """A placement runs that is not wanted."""
    UNKNOWN_APPLICATION = "unknown_application"
    """Ray Serve has an application that is no placement of ours."""
    NODE_WITHOUT_RAY = "node_without_ray"
    """An agent is linked, and the pool's Ray cluster has no live node of its name."""
    RAY_NODE_WITHOUT_AGENT = "ray_node_without_agent"
    """The Ray cluster has a node of which no agent is linked: what runs there cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One place that is not as it should be."""

    kind: DriftKind
    subject: str
    """Name of a node, a model or an application."""
    node: str | None = None
    revision: str | None = None
    """Digest."""
    reason: str
    """For people, with the next step where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSeen:
    """A placement that is wanted, or not gone yet."""

    node: str
    model: str
    digest: str
    wanted: bool
    state: PlacementState
    replicas_min: int
    replicas_running: int
    reason: str = ""

    @property
    def is_there(self) -> bool:
        """Whether replicas of it run."""
        return self.replicas_running > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen:
    """The last report's view of the Ray cluster."""

    reported_at: datetime | None
    ray_nodes: Collection[str]
    unknown: Sequence[str]


def drifts(
    placements: Sequence[PlacementSeen],
    *,
    linked: Collection[str],
    cluster: ClusterSeen | None,
    now: datetime,
) -> list[Drift]:
    """All drift of one pool, the gravest first. `linked` are the names of its nodes whose agents have a live link.

    Without a fresh report only that is said: of the cluster nothing is known.
    """
    reported_at = cluster.reported_at if cluster is not None else None
    if cluster is None or reported_at is None or now - reported_at > REPORT_AGE_MAX:
        since = (
            "has never reported"
            if reported_at is None
            else f"reported last at {reported_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        return [
            Drift(
                kind=DriftKind.NO_CONTROLLER,
                subject="controller",
                reason=f"the pool's controller {since}; start `raymart-provider controller` beside its Ray head",
            )
        ]
    return [
        *_of_machines(linked, cluster.ray_nodes),
        *_of_placements(placements),
        *(
            Drift(
                kind=DriftKind.UNKNOWN_APPLICATION,
                subject=name,
                reason="Ray Serve runs it and it is no placement of ours; the next change of the pool removes it",
            )
            for name in cluster.unknown
        ),
    ]


def _of_machines(linked: Collection[str], ray_nodes: Collection[str]) -> list[Drift]:
    without_ray = sorted(set(linked) - set(ray_nodes))
    without_agent = sorted(set(ray_nodes) - set(linked) - {HEAD_NAME})
    return [
        *(
            Drift(
                kind=DriftKind.NODE_WITHOUT_RAY,
                subject=name,
                node=name,
                reason="its agent is linked and its Ray node is not in the cluster; see `raymart-provider status` there",
            )
            for name in without_ray
        ),
        *(
            Drift(
                kind=DriftKind.RAY_NODE_WITHOUT_AGENT,
                subject=name,
                node=name,
                reason="its Ray node is in the cluster and its agent is not linked; start `raymart-provider join` there",
            )
            for name in without_agent
        ),
    ]


def _of_placements(placements: Sequence[PlacementSeen]) -> list[Drift]:
    wanted: Mapping[tuple[str, str], list[str]] = defaultdict(list)
    for placement in placements:
        if placement.wanted:
            wanted[placement.node, placement.model].append(placement.digest)
    found = []
    for placement in placements:
        drift = _missing(placement) if placement.wanted else _surplus(placement, wanted)
        if drift is not None:
            found.append(drift)
    return found


def _missing(placement: PlacementSeen) -> Drift | None:
    enough = (
        placement.state is PlacementState.RUNNING and placement.replicas_running >= placement.replicas_min
    )
    if enough:
        return None
    said = placement.reason or placement.state.value
    return Drift(
        kind=DriftKind.MISSING,
        subject=placement.model,
        node=placement.node,
        revision=placement.digest,
        reason=f"{placement.replicas_running} of {max(1, placement.replicas_min)} replicas run: {said}",
    )


def _surplus(placement: PlacementSeen, wanted: Mapping[tuple[str, str], list[str]]) -> Drift | None:
    if not placement.is_there:
        return None
    others = wanted.get((placement.node, placement.model))
    return Drift(
        kind=DriftKind.WRONG_REVISION if others else DriftKind.SURPLUS,
        subject=placement.model,
        node=placement.node,
        revision=placement.digest,
        reason=(
            f"{placement.replicas_running} replicas run and none is wanted"
            f"{f'; wanted is {others[0]}' if others else ''}"
        ),
    )


async def pool_drift(session: AsyncSession, pool_id: UUID) -> Sequence[Drift]:
    """The drift of one pool, at most `DRIFTS_MAX`, by what the database knows. Four short reads."""
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    status = await session.get(PoolStatus, pool_id, populate_existing=True)
    linked = await session.scalars(
        select(Node.name).where(
            Node.pool_id == pool_id,
            Node.role == NodeRole.NODE,
            Node.link_id.is_not(None),
            Node.revoked_at.is_(None),
        )
    )
    cluster = None
    if status is not None:
        cluster = ClusterSeen(
            reported_at=status.reported_at,
            ray_nodes=frozenset(status.ray_nodes),
            unknown=status.unknown_applications,
        )
    found = drifts(await _placements(session, pool_id), linked=set(linked), cluster=cluster, now=now)
    return found[:DRIFTS_MAX]


async def _placements(session: AsyncSession, pool_id: UUID) -> Sequence[PlacementSeen]:
    statement = (
        select(Placement, Node.name, Model.slug, ModelRevision.digest)
        .join(Node, Node.id == Placement.node_id)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(
            Node.pool_id == pool_id,
            Node.revoked_at.is_(None),
            or_(Placement.desired.is_(True), Placement.replicas_running > 0),
        )
        .order_by(Placement.id)
        .limit(_PLACEMENTS_MAX)
    )
    return [
        PlacementSeen(
            node=node,
            model=model,
            digest=digest,
            wanted=placement.desired,
            state=placement.state,
            replicas_min=placement.replicas_min,
            replicas_running=placement.replicas_running,
            reason=placement.reason,
        )
        for placement, node, model, digest in await session.execute(statement)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolListed:
    """A pool, for the operator's listing."""

    slug: str
    kind: PoolKind
    region: str
    controller: str
    """Name of the controlling machine; empty where none controls it now."""
    nodes_linked: int
    drift: Sequence[Drift]


async def list_pools(session: AsyncSession, *, limit: int) -> Sequence[PoolListed]:
    """All pools with their drift, oldest first."""
    listed = []
    for pool in await session.scalars(select(Pool).order_by(Pool.id).limit(limit)):
        holder = await session.scalar(
            select(Node.name)
            .join(PoolStatus, PoolStatus.controller_id == Node.id)
            .where(PoolStatus.pool_id == pool.id, PoolStatus.held_until > func.clock_timestamp())
        )
        linked = await session.scalar(
            select(func.count())
            .select_from(Node)
            .where(Node.pool_id == pool.id, Node.role == NodeRole.NODE, Node.link_id.is_not(None))
        )
        listed.append(
            PoolListed(
                slug=pool.slug,
                kind=pool.kind,
                region=pool.region,
                controller=holder or "",
                nodes_linked=linked or 0,
                drift=await pool_drift(session, pool.id),
            )
        )
    return listed
