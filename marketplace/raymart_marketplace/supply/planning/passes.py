"""Passes of the planner: over one provider when something of it has changed, over all of them every few seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.db.tenancy import unconfined
from raymart_marketplace.pricing.book import database_now, load_book
from raymart_marketplace.supply.models import Node, NodeRole, NodeState, Offer, OfferState
from raymart_marketplace.supply.planning.carrying_out import carry_out, differs, release_unconfirmed
from raymart_marketplace.supply.planning.loading import load_snapshots
from raymart_marketplace.supply.planning.plan import plan
from raymart_marketplace.supply.planning.tables import PlacementRejection

log = structlog.get_logger()

OUTAGE_WINDOW = timedelta(minutes=15)
OUTAGE_SHARE = 0.5
OUTAGE_NODES_MIN = 4
"""When at least so many machines, and such a share of those that were there, went away within the window, it was us."""
_BASIS_POINTS = 0
"""The platform's share does not decide what can be sold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass over all providers did."""

    providers: int
    """That have open offers."""
    changed: int
    """Of which something changed."""
    released: int
    """Reservations that no controller had confirmed."""
    outage: bool
    """Whether so many machines are away that it is taken for our own fault; nothing was planned."""


async def plan_provider(session: AsyncSession, provider_id: UUID) -> None:
    """Plan all of the provider's open offers now, and carry it out. Idempotent.

    With the process's own rights, for what it reads and writes of planning is no tenant's. Locks the provider's plan
    until the commit, after any offers that the caller has locked.
    """
    await session.flush()
    async with unconfined(session):
        await session.execute(
            select(func.pg_advisory_xact_lock(func.hashtextextended(f"placement {provider_id}", 0)))
        )
        at = await database_now(session)
        book = await load_book(session, fee_basis_points=_BASIS_POINTS)
        away = is_outage(await _lost_and_there(session, at))
        snapshots = await load_snapshots(session, at, book=book, provider_ids=[provider_id], all_away=away)
        for snapshot in snapshots.values():
            await carry_out(session, plan(snapshot), snapshot)


async def plan_all(sessions: Sessions) -> Pass:
    """Release what nobody confirmed, then plan anew every provider of which something differs. Safe to repeat.

    Each provider is a transaction of its own. While so many machines are away that it must be our own fault, nothing is
    released and nothing is planned.
    """
    async with session_scope(sessions) as session:
        at = await database_now(session)
        if is_outage(await _lost_and_there(session, at)):
            log.error("placement.outage", hint="many machines went away at once; nothing is planned")
            return Pass(providers=0, changed=0, released=0, outage=True)
        released = await release_unconfirmed(session)
        await session.execute(
            delete(PlacementRejection).where(
                PlacementRejection.offer_id.in_(
                    select(Offer.id).where((Offer.state != OfferState.OPEN) | Offer.succeeded_by.is_not(None))
                )
            )
        )
    async with session_scope(sessions) as session:
        book = await load_book(session, fee_basis_points=_BASIS_POINTS)
        snapshots = await load_snapshots(session, at, book=book)
    changing = [
        provider_id for provider_id, snapshot in snapshots.items() if differs(plan(snapshot), snapshot)
    ]
    for provider_id in changing:
        async with session_scope(sessions) as session:
            await plan_provider(session, provider_id)
    return Pass(providers=len(snapshots), changed=len(changing), released=len(released), outage=False)


def is_outage(counts: tuple[int, int]) -> bool:
    """Whether (machines that went away lately, machines that are there) look like a fault of ours, not of theirs."""
    lost, there = counts
    return lost >= OUTAGE_NODES_MIN and lost >= OUTAGE_SHARE * (lost + there)


async def _lost_and_there(session: AsyncSession, at: datetime) -> tuple[int, int]:
    statement = (
        select(Node.state, func.count())
        .where(
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Node.state.in_((NodeState.OFFLINE, NodeState.READY)),
            (Node.state == NodeState.READY) | (Node.last_seen_at > at - OUTAGE_WINDOW),
        )
        .group_by(Node.state)
    )
    counts: Mapping[NodeState, int] = {state: count for state, count in await session.execute(statement)}  # noqa: C416  (rows, not tuples)
    return counts.get(NodeState.OFFLINE, 0), counts.get(NodeState.READY, 0)


__all__: Sequence[str] = ("Pass", "is_outage", "plan_all", "plan_provider")
