"""From one revision to another without a gap: when the alias that governs moves, offers and placements follow it.

Each pass looks at the rows and takes what steps it can; it may run twice, stop anywhere, and turn round when the alias
moves again. For every provider that offers a superseded revision:

1. an offer of the current one is opened at the same asks, floors and hours, and its revision wanted on the provider's
   machines beside the old one;
2. on a machine where it runs, the old one is wanted no more: its replicas finish what they serve and go;
3. when no machine is wanted to run the old one, its offer is closed.

Routing prefers the current one from the moment it is ready (`routing.route`), and falls back to the old one until then.

A machine without room for both never gets to 2. When the current one has run elsewhere for `SURGE_PATIENCE`, the old
one gives way there, one machine of a model at a time, and never the last that serves.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.catalog.models import ModelRevision, RevisionState
from raymart_marketplace.catalog.standing import revision_standings
from raymart_marketplace.pricing.asks import copy_terms
from raymart_marketplace.supply.live import Standing
from raymart_marketplace.supply.models import Node, NodeRole, Offer, OfferState, Placement, PlacementState
from raymart_marketplace.supply.placements import place_offers, unplace

log = structlog.get_logger()

SURGE_PATIENCE = timedelta(minutes=2)
"""How long a machine is given to run both revisions before the old one gives way."""


async def follow_aliases(session: AsyncSession, *, model_id: UUID | None = None) -> int:
    """Take every step that can be taken now, of one model or of all; returns how many were.

    Locks the offers that move, in order of their ids.
    """
    moving = await _superseded_offers(session, model_id)
    steps = 0
    for old, current_id in moving:
        successor, opened = await _successor(session, old, current_id)
        if successor is None:
            continue
        steps += opened
        steps += await _give_way(session, old, successor)
    return steps


async def _superseded_offers(session: AsyncSession, model_id: UUID | None) -> Sequence[tuple[Offer, UUID]]:
    """Offers that have to move, with the revision that they move to. Locks them."""
    alive = select(Offer.revision_id).where(Offer.state != OfferState.CLOSED).distinct()
    if model_id is not None:
        alive = alive.join(ModelRevision).where(ModelRevision.model_id == model_id)
    standings = await revision_standings(session, (await session.scalars(alive)).all())
    targets = {
        revision_id: found.current_id
        for revision_id, found in standings.items()
        if found.standing is Standing.SUPERSEDED and found.current_id is not None
    }
    if not targets:
        return ()
    offers = await session.scalars(
        select(Offer)
        .where(Offer.revision_id.in_(targets), Offer.state != OfferState.CLOSED)
        .order_by(Offer.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return [(offer, targets[offer.revision_id]) for offer in offers]


async def _successor(session: AsyncSession, old: Offer, current_id: UUID) -> tuple[Offer | None, bool]:
    """The provider's offer of the current revision, and whether it was opened or taken up again just now."""
    found = await session.scalar(
        select(Offer).where(
            Offer.provider_id == old.provider_id,
            Offer.revision_id == current_id,
            Offer.state != OfferState.CLOSED,
        )
    )
    if found is not None:
        if old.succeeded_by == found.id and found.succeeded_by is None:
            return found, False
        # The alias went back before the first rollout was through, or the provider was faster.
        found.succeeded_by, found.succeeded_at = None, None
    else:
        found = await _open_alike(session, old, current_id)
        if found is None:
            return None, False
    moved_at = await session.scalar(select(func.clock_timestamp()))
    old.succeeded_by, old.succeeded_at = found.id, moved_at
    await session.flush()
    await place_offers(session, provider_id=old.provider_id)
    log.info(
        "offer.follows",
        offer_id=show(Prefix.OFFER, old.id),
        successor_id=show(Prefix.OFFER, found.id),
        revision_id=show(Prefix.REVISION, current_id),
    )
    return found, True


async def _open_alike(session: AsyncSession, old: Offer, revision_id: UUID) -> Offer | None:
    """An offer of `revision_id` on the terms of `old`; None while that revision may not be offered."""
    state = await session.scalar(select(ModelRevision.state).where(ModelRevision.id == revision_id))
    if state is not RevisionState.PUBLISHED:
        return None
    made = Offer(
        id=new_id(),
        provider_id=old.provider_id,
        revision_id=revision_id,
        state=old.state,
        warmth=old.warmth,
        replicas_max=old.replicas_max,
        nodes_max=old.nodes_max,
        gpus_max=old.gpus_max,
        idle_s=old.idle_s,
        hours=old.hours,
        node_ids=old.node_ids,
    )
    session.add(made)
    await session.flush()
    await copy_terms(session, old, made)
    return made


async def _give_way(session: AsyncSession, old: Offer, successor: Offer) -> int:
    """Let the old revision go where the new one runs; close its offer when that is everywhere."""
    placements = await _placements(session, old, successor)
    wanted = [each for each in placements if each.revision_id == old.revision_id and each.desired]
    new = {each.node_id: each for each in placements if each.revision_id == successor.revision_id}
    steps = 0
    # What is paused is not routed to, so nobody misses it while the new one loads.
    ready = [each for each in wanted if old.state is OfferState.PAUSED or _runs(new.get(each.node_id))]
    for placement in ready:
        await unplace(session, node_ids=[placement.node_id], revision_id=old.revision_id)
        steps += 1
    left = [each for each in wanted if each not in ready]
    if not left:
        old.state = OfferState.CLOSED
        await session.flush()
        log.info("offer.followed", offer_id=show(Prefix.OFFER, old.id))
        return steps + 1
    if steps == 0:
        steps += await _make_room(session, old, successor, left, new)
    return steps


async def _placements(session: AsyncSession, old: Offer, successor: Offer) -> Sequence[Placement]:
    """Of both revisions, on the provider's living machines."""
    statement = (
        select(Placement)
        .join(Node, Node.id == Placement.node_id)
        .where(
            Node.provider_id == old.provider_id,
            Node.role == NodeRole.NODE,
            Node.revoked_at.is_(None),
            Placement.revision_id.in_((old.revision_id, successor.revision_id)),
        )
        .order_by(Placement.id)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def _make_room(
    session: AsyncSession,
    old: Offer,
    successor: Offer,
    left: Sequence[Placement],
    new: Mapping[UUID, Placement],
) -> int:
    """Take the old revision off one machine that cannot hold both, if the new one is served elsewhere meanwhile."""
    waited = await session.scalar(select(func.clock_timestamp() - old.succeeded_at))
    if waited is None or waited < SURGE_PATIENCE:
        return 0
    running = await session.scalar(
        select(func.count())
        .select_from(Placement)
        .where(Placement.revision_id == successor.revision_id, Placement.state == PlacementState.RUNNING)
    )
    # A machine that already gave way and does not run the new one yet is waited for.
    under_way = await _between(session, successor.revision_id, old.revision_id)
    if not running or under_way:
        return 0
    first = next((each for each in left if each.node_id in new), None)
    if first is None:
        return 0
    await unplace(session, node_ids=[first.node_id], revision_id=first.revision_id)
    log.info("placement.gives_way", placement_id=show(Prefix.PLACEMENT, first.id))
    return 1


async def _between(session: AsyncSession, new_id_: UUID, old_id: UUID) -> bool:
    """Whether a machine has given up the old revision and does not run the new one yet."""
    old = select(Placement.node_id).where(Placement.revision_id == old_id, Placement.desired.is_(False))
    found = await session.scalar(
        select(Placement.id)
        .where(
            Placement.revision_id == new_id_,
            Placement.desired.is_(True),
            Placement.state != PlacementState.RUNNING,
            Placement.node_id.in_(old),
        )
        .limit(1)
    )
    return found is not None


def _runs(placement: Placement | None) -> bool:
    return (
        placement is not None
        and placement.desired
        and placement.state is PlacementState.RUNNING
        and placement.replicas_running >= 1
    )
