"""Nodes that are missed: damped, so that a blip evicts nobody, and a fault of our own never empties the market.

Routing does not wait for this: a node without a link is not routed to from the same instant on. What is decided here,
after a grace, is that the node is offline, which is what placement and people go by. A node that is back within the
grace changed nothing. When much of the market disappears at once, over several providers, then the fault is nearer to us
than to them: nobody is marked offline, and nothing is planned anew, until the links are back or the hold is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.supply.life_models import NodeEventKind
from raymart_marketplace.supply.models import Node, NodeRole, NodeState
from raymart_marketplace.supply.node_life import SYSTEM, TRANSITIONS, change_many

log = structlog.get_logger()

GRACE_S = 30.0
"""So long a node may be without a link before it is offline."""
SILENCE_S = 45.0
"""A link of which its process says nothing for so long is gone, with the process: links that are up are noted every few seconds."""
MASS_SHARE = 0.3
"""Of the nodes that have a link, or are missed and not yet offline: those lost within the grace, and those held."""
MASS_NODES_MIN = 4
"""Fewer say nothing: half of a market of two is one machine that was switched off."""
HOLD_S = 900.0
"""After so long they are offline, whoever's fault it was."""

_MISSED = tuple(TRANSITIONS[NodeEventKind.LINK_LOST])


@dataclass(frozen=True, slots=True)
class Presence:
    """A provider's nodes: how many have a link, and how many are missed that are not offline yet."""

    linked: int
    lost: int


def is_mass_disconnection(providers: Mapping[UUID | None, Presence]) -> bool:
    """Whether the losses are to be taken for a fault of our own.

    They are when they are many (`MASS_NODES_MIN`), a large share of all (`MASS_SHARE`), and not of one provider alone
    while another's nodes are there: one provider's data centre may well go dark.
    """
    linked = sum(each.linked for each in providers.values())
    lost = sum(each.lost for each in providers.values())
    if lost < MASS_NODES_MIN or lost < MASS_SHARE * (linked + lost):
        return False
    hit = [provider for provider, each in providers.items() if each.lost]
    others_stand = any(each.linked for provider, each in providers.items() if provider not in hit)
    return len(hit) > 1 or not others_stand


async def mark_absent(
    session: AsyncSession, *, grace_s: float = GRACE_S, silence_s: float = SILENCE_S
) -> Sequence[Node]:
    """Nodes whose link is gone for longer than the grace are offline, unless it is a mass disconnection; returns them.

    Safe to run twice at once: rows are locked, and a node is offline once.
    """
    await _end_silent_links(session, silence_s)
    now = await _now(session)
    if await _mass_disconnection(session, now):
        late = Node.link_lost_at <= now - timedelta(seconds=HOLD_S)
    else:
        late = Node.link_lost_at <= now - timedelta(seconds=grace_s)
    missed = await session.scalars(select(Node.id).where(_without_link(), late))
    return await change_many(
        session,
        missed.all(),
        NodeEventKind.LINK_LOST,
        reason=f"its link was gone for more than {grace_s:g} s",
        by=SYSTEM,
    )


async def mass_disconnection(session: AsyncSession) -> bool:
    """Whether links went missing in a way that is to be taken for our own fault: plan nothing anew meanwhile."""
    return await _mass_disconnection(session, await _now(session))


async def _mass_disconnection(session: AsyncSession, now: datetime) -> bool:
    # Who was lost alone is offline after the grace and counts no more; who is held goes on to count.
    lost_lately = and_(_without_link(), Node.link_lost_at > now - timedelta(seconds=HOLD_S))
    statement = (
        select(
            Node.provider_id,
            func.count().filter(Node.link_id.is_not(None)),
            func.count().filter(lost_lately),
        )
        .where(Node.role == NodeRole.NODE, Node.revoked_at.is_(None), Node.state != NodeState.RETIRED)
        .group_by(Node.provider_id)
    )
    found = {
        provider_id: Presence(linked, lost) for provider_id, linked, lost in await session.execute(statement)
    }
    if not is_mass_disconnection(found):
        return False
    log.error(
        "links.mass_disconnection",
        lost=sum(each.lost for each in found.values()),
        linked=sum(each.linked for each in found.values()),
    )
    return True


def _without_link() -> ColumnElement[bool]:
    return and_(Node.state.in_(_MISSED), Node.link_id.is_(None), Node.link_lost_at.is_not(None))


async def _end_silent_links(session: AsyncSession, silence_s: float) -> None:
    """Links of processes that died: they could not say that they lost them."""
    silent = Node.last_seen_at <= func.clock_timestamp() - timedelta(seconds=silence_s)
    await session.execute(
        update(Node)
        .where(Node.state.in_(_MISSED), silent, or_(Node.link_id.is_not(None), Node.link_lost_at.is_(None)))
        .values(link_id=None, link_lost_at=Node.last_seen_at)
    )


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now
