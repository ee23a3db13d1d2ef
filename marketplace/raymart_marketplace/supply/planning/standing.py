"""How every model stands after a pass: served, asleep, starting, or placed nowhere, and then why."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import (
    Node,
    NodeState,
    Offer,
    OfferState,
    Placement,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.tables import ModelPlacement, PlacementRejection


class Standing(StrEnum):
    """What a customer can expect of a model."""

    SERVED = "served"
    """A replica runs."""
    STARTING = "starting"
    """It is placed, and no replica is ready yet."""
    SLEEPING = "sleeping"
    """It is placed, and wakes when it is asked for."""
    NO_NODE_MATCHES = "no_node_matches"
    """Providers offer it, and none of their machines can take it."""
    NOT_OFFERED = "not_offered"
    """No provider offers it."""


def standing_of(row: ModelPlacement) -> Standing:
    """What `row` says in one word."""
    if row.running:
        return Standing.SERVED
    if row.placed > row.sleeping:
        return Standing.STARTING
    if row.sleeping:
        return Standing.SLEEPING
    return Standing.NO_NODE_MATCHES if row.offers else Standing.NOT_OFFERED


async def note_standing(sessions: Sessions, demand: Demand) -> None:
    """Write how each model that has a served revision stands, where that has changed. Safe to repeat."""
    async with session_scope(sessions) as session:
        models = await _models(session)
        offers, of_offer = await _offers(session)
        placed = await _placed(session)
        misfits = await _misfits(session)
        waiting: Counter[UUID] = Counter()
        for offer_hex, count in demand.waiting.items():
            if (model_id := of_offer.get(UUID(offer_hex))) is not None:
                waiting[model_id] += count
        rows = [
            {
                "model_id": model_id,
                "asked": demand.asked.get(slug, 0),
                "waiting": waiting[model_id],
                "offers": offers[model_id],
                "placed": placed[model_id][0],
                "running": placed[model_id][1],
                "sleeping": placed[model_id][2],
                "misfits": dict(misfits[model_id]),
            }
            for model_id, slug in sorted(models.items())
        ]
        await session.execute(delete(ModelPlacement).where(ModelPlacement.model_id.not_in(models)))
        if rows:
            await _write(session, rows)


async def _models(session: AsyncSession) -> Mapping[UUID, str]:
    statement = (
        select(Model.id, Model.slug)
        .join(ModelRevision, ModelRevision.model_id == Model.id)
        .where(ModelRevision.state.in_(SERVED))
        .distinct()
    )
    return {model_id: slug for model_id, slug in await session.execute(statement)}  # noqa: C416  (rows, not tuples)


async def _write(session: AsyncSession, rows: list[dict[str, object]]) -> None:
    made = insert(ModelPlacement).values(rows)
    columns = [name for name in rows[0] if name != "model_id"]
    differs = [getattr(ModelPlacement, name).is_distinct_from(made.excluded[name]) for name in columns]
    changed = differs[0]
    for each in differs[1:]:
        changed |= each
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[ModelPlacement.model_id],
            set_={name: made.excluded[name] for name in columns} | {"updated_at": func.clock_timestamp()},
            where=changed,
        )
    )


async def _offers(session: AsyncSession) -> tuple[Counter[UUID], Mapping[UUID, UUID]]:
    """Open offers by model, and the model of each."""
    statement = (
        select(Offer.id, ModelRevision.model_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Provider, Provider.id == Offer.provider_id)
        .where(Offer.state == OfferState.OPEN, Provider.state == ProviderState.ACTIVE)
    )
    of_offer = {offer_id: model_id for offer_id, model_id in await session.execute(statement)}  # noqa: C416  (rows, not tuples)
    return Counter(of_offer.values()), of_offer


async def _placed(session: AsyncSession) -> Mapping[UUID, tuple[int, int, int]]:
    """By model: placements that are wanted on machines that may serve, those with a replica, those that sleep."""
    statement = (
        select(
            ModelRevision.model_id,
            func.count(),
            func.count().filter(Placement.replicas_running > 0),
            func.count().filter(Placement.replicas_running == 0, Placement.replicas_min == 0),
        )
        .select_from(Placement)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .where(
            Placement.desired.is_(True),
            Node.revoked_at.is_(None),
            Node.state.not_in((NodeState.OFFLINE, NodeState.RETIRED)),
            Provider.state == ProviderState.ACTIVE,
        )
        .group_by(ModelRevision.model_id)
    )
    found: dict[UUID, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for model_id, placed, running, sleeping in await session.execute(statement):
        found[model_id] = placed, running, sleeping
    return found


async def _misfits(session: AsyncSession) -> Mapping[UUID, Counter[str]]:
    statement = (
        select(ModelRevision.model_id, PlacementRejection.misfit, func.count())
        .select_from(PlacementRejection)
        .join(Offer, Offer.id == PlacementRejection.offer_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .where(Offer.state == OfferState.OPEN, Offer.succeeded_by.is_(None))
        .group_by(ModelRevision.model_id, PlacementRejection.misfit)
    )
    found: dict[UUID, Counter[str]] = defaultdict(Counter)
    for model_id, misfit, count in await session.execute(statement):
        found[model_id][misfit.value] = count
    return found
