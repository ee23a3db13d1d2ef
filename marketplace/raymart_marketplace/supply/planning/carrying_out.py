"""From a plan to rows: placements wanted and given up, and why not elsewhere. Writes only what differs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, delete, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core import ids
from raymart_core.ids import Prefix, show
from raymart_marketplace.supply.models import Node, NodeState, Placement, PlacementState
from raymart_marketplace.supply.planning.snapshot import Placed, Plan, Rejected, Snapshot, Wanted
from raymart_marketplace.supply.planning.tables import PlacementRejection

log = structlog.get_logger()

CONFIRM_S = 60
"""How long a reservation waits for a controller to say that it has it."""
_RETRY_FIRST_S = 30
_RETRY_DOUBLINGS_MAX = 5
"""After it was given up, a machine is left alone for half a minute, then twice as long, up to 16 minutes."""


def differs(plan: Plan, snapshot: Snapshot) -> bool:
    """Whether carrying `plan` out would change a row."""
    return (
        bool(plan.given_up)
        or any(_change(snapshot, wanted) for wanted in plan.wanted)
        or bool(_news(plan, snapshot))
        or snapshot.said.keys() != {(each.offer_id, each.node_id) for each in plan.rejected}
    )


async def carry_out(session: AsyncSession, plan: Plan, snapshot: Snapshot) -> None:
    """Make the rows say what the plan says. Locks the placements that change, in order of node and revision."""
    await _want(session, [wanted for wanted in plan.wanted if _change(snapshot, wanted)], snapshot)
    for rejected in plan.given_up:
        await _give_up(session, rejected, snapshot)
    await _say_why(session, plan, snapshot)


async def release_unconfirmed(session: AsyncSession) -> Sequence[UUID]:
    """Give up reservations that no controller has confirmed in time; their nodes, so that they are planned anew.

    Only of machines that are ready: one that is away or being measured cannot be placed on, and that is nobody's fault
    yet. Their time begins anew.
    """
    ready = select(Node.id).where(Node.state == NodeState.READY)
    waits = (Placement.desired.is_(True), Placement.confirmed_at.is_(None))
    soon = func.clock_timestamp() + timedelta(seconds=CONFIRM_S / 2)
    await session.execute(
        update(Placement)
        .where(*waits, Placement.confirm_by < soon, Placement.node_id.not_in(ready))
        .values(confirm_by=func.clock_timestamp() + timedelta(seconds=CONFIRM_S))
    )
    statement = (
        update(Placement)
        .where(
            *waits,
            Placement.confirm_by < func.clock_timestamp(),
            Placement.node_id.in_(ready),
        )
        .values(
            desired=False,
            state=PlacementState.GONE,
            state_at=func.clock_timestamp(),
            reason=f"no controller of the pool confirmed it within {CONFIRM_S} s",
            confirm_by=null(),
            retry_at=func.clock_timestamp() + _retry_after(),
            releases=Placement.releases + 1,
        )
        .returning(Placement.id, Placement.node_id)
    )
    rows = (await session.execute(statement)).all()
    for placement_id, _ in rows:
        log.warning("placement.unconfirmed", placement_id=show(Prefix.PLACEMENT, placement_id))
    return [node_id for _, node_id in rows]


async def welcome_controller(session: AsyncSession, pool_id: UUID) -> None:
    """A controller has come: what was given up in its pool for want of one may be tried again at once."""
    await session.execute(
        update(Placement)
        .where(
            Placement.node_id.in_(select(Node.id).where(Node.pool_id == pool_id)),
            Placement.desired.is_(False),
            Placement.confirmed_at.is_(None),
            Placement.retry_at.is_not(None),
        )
        .values(retry_at=null())
    )


def _retry_after() -> ColumnElement[timedelta]:
    doublings = func.least(Placement.releases, _RETRY_DOUBLINGS_MAX)
    return literal(timedelta(seconds=_RETRY_FIRST_S)) * func.power(2, doublings)


def _change(snapshot: Snapshot, wanted: Wanted) -> bool:
    placed = snapshot.placed.get((wanted.node_id, wanted.revision_id))
    return placed is None or not placed.desired or _sizes(placed) != _sizes(wanted)


def _sizes(of: Wanted | Placed) -> tuple[int, int, int, int, int, int]:
    return of.replicas_min, of.replicas_max, of.slots, of.idle_s, of.memory_bytes, of.gpus


async def _want(session: AsyncSession, wanted: Sequence[Wanted], snapshot: Snapshot) -> None:
    """Reserve what is new, and size what is there. Idempotent."""
    if not wanted:
        return
    made = insert(Placement).values(
        [
            {
                "id": ids.new_id(),
                "node_id": each.node_id,
                "revision_id": each.revision_id,
                "replicas_min": each.replicas_min,
                "replicas_max": each.replicas_max,
                "slots": each.slots,
                "idle_s": each.idle_s,
                "memory_bytes": each.memory_bytes,
                "gpus": each.gpus,
                "state": PlacementState.REQUESTED,
                "confirm_by": snapshot.at + timedelta(seconds=CONFIRM_S),
            }
            for each in wanted
        ]
    )
    sizes = {
        name: made.excluded[name]
        for name in ("replicas_min", "replicas_max", "slots", "idle_s", "memory_bytes", "gpus")
    }
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[Placement.node_id, Placement.revision_id],
            set_=sizes,
            where=Placement.desired.is_(True),
        )
    )
    for each in wanted:
        placed = snapshot.placed.get((each.node_id, each.revision_id))
        if placed is None or placed.desired:
            continue
        await session.execute(
            update(Placement)
            .where(
                Placement.node_id == each.node_id,
                Placement.revision_id == each.revision_id,
                Placement.desired.is_(False),
            )
            .values(_reserved(each, snapshot.at))
        )


def _reserved(wanted: Wanted, at: datetime) -> dict[str, object]:
    """A placement that was unwanted, wanted again."""
    return {
        "desired": True,
        "state": PlacementState.REQUESTED,
        "state_at": func.clock_timestamp(),
        "reason": "",
        "replicas_min": wanted.replicas_min,
        "replicas_max": wanted.replicas_max,
        "slots": wanted.slots,
        "idle_s": wanted.idle_s,
        "memory_bytes": wanted.memory_bytes,
        "gpus": wanted.gpus,
        "confirm_by": at + timedelta(seconds=CONFIRM_S),
        "confirmed_at": None,
        "retry_at": None,
    }


async def _give_up(session: AsyncSession, rejected: Rejected, snapshot: Snapshot) -> None:
    """Take a placement off its machine, saying why. One that failed there is not tried again at once."""
    revision_id = next(offer.revision_id for offer in snapshot.offers if offer.id == rejected.offer_id)
    assert rejected.node_id is not None
    failed = snapshot.placed[rejected.node_id, revision_id].state in {
        PlacementState.FAILED,
        PlacementState.PLACING,
    }
    await session.execute(
        update(Placement)
        .where(Placement.node_id == rejected.node_id, Placement.revision_id == revision_id)
        .values(
            desired=False,
            reason=rejected.detail,
            confirm_by=null(),
            retry_at=func.clock_timestamp() + _retry_after() if failed else null(),
            releases=Placement.releases + 1 if failed else Placement.releases,
        )
    )
    log.info(
        "placement.given_up",
        offer_id=show(Prefix.OFFER, rejected.offer_id),
        node_id=show(Prefix.NODE, rejected.node_id),
        misfit=rejected.misfit.value,
    )


async def _say_why(session: AsyncSession, plan: Plan, snapshot: Snapshot) -> None:
    """Keep the reasons of these offers, and no others; what did not change keeps its time."""
    told = {(each.offer_id, each.node_id) for each in plan.rejected}
    for offer_id, node_id in snapshot.said.keys() - told:
        await session.execute(
            delete(PlacementRejection).where(
                PlacementRejection.offer_id == offer_id,
                PlacementRejection.node_id.is_not_distinct_from(node_id),
            )
        )
    news = _news(plan, snapshot)
    if not news:
        return
    made = insert(PlacementRejection).values(
        [
            {
                "id": ids.new_id(),
                "offer_id": each.offer_id,
                "node_id": each.node_id,
                "misfit": each.misfit,
                "detail": each.detail,
            }
            for each in news
        ]
    )
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[PlacementRejection.offer_id, PlacementRejection.node_id],
            set_={
                "misfit": made.excluded.misfit,
                "detail": made.excluded.detail,
                "created_at": func.clock_timestamp(),
            },
        )
    )


def _news(plan: Plan, snapshot: Snapshot) -> list[Rejected]:
    return [each for each in plan.rejected if snapshot.said.get((each.offer_id, each.node_id)) != each.misfit]
