"""How nodes stand in the market: whether they are drained, until when, and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One node's; the default is that of a node that nobody drains."""

    draining: bool = False
    until: datetime | None = None
    reason: str = ""
    """Of the drain that stands."""
    notice_s: float = 0.0
    """What is left of the notice."""


async def standings(session: AsyncSession, node_ids: Collection[UUID]) -> Mapping[UUID, Standing]:
    """The nodes that are drained; the others are left out."""
    reason = (
        select(NodeEvent.reason)
        .where(NodeEvent.node_id == Node.id, NodeEvent.event == NodeEventKind.DRAINED)
        .order_by(NodeEvent.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    left = func.extract("epoch", Node.drain_until - func.clock_timestamp())
    statement = select(Node.id, Node.drain_until, left, reason).where(
        Node.id == func.any(literal(list(node_ids), ARRAY(Uuid))), Node.state == NodeState.DRAINING
    )
    return {
        node_id: Standing(
            draining=True,
            until=until,
            reason=why or "",
            notice_s=max(0.0, float(left_s)) if left_s is not None else 0.0,
        )
        for node_id, until, left_s, why in await session.execute(statement)
    }
