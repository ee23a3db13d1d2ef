"""A sleeping placement of a model, in rows: a provider with an offer that waits until it is asked for."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update

from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Node, NodeState, Offer, Placement, Warmth
from raymart_marketplace.supply.placements import place_offers
from raymart_marketplace.supply.service import open_offer
from support.market import make_node, make_pool, make_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepingOffer:
    """What `put_to_sleep` made."""

    offer_id: UUID
    provider_slug: str
    placement_id: UUID


async def put_to_sleep(
    sessions: Sessions, model_slug: str, *, ask_nano_usd: int = 2, cold_start_ms: int | None = None
) -> SleepingOffer:
    """Offer the model's revision on a machine that is there, asleep."""
    async with session_scope(sessions) as session:
        revision_id = (
            await session.scalars(
                select(ModelRevision.id).join(Model).where(Model.slug == model_slug).limit(1)
            )
        ).one()
        provider, pool = await make_provider(session), await make_pool(session)
        node = await make_node(session, pool=pool, provider=provider)
        await session.execute(update(Node).where(Node.id == node.id).values(state=NodeState.READY))
        offer = await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision_id,
            ask_prompt_nano_usd=ask_nano_usd,
            ask_completion_nano_usd=ask_nano_usd,
        )
        await session.execute(update(Offer).where(Offer.id == offer.id).values(warmth=Warmth.ON_DEMAND))
        await place_offers(session, provider_id=provider.id)
        placement = (await session.scalars(select(Placement).where(Placement.node_id == node.id))).one()
        placement.cold_start_ms = cold_start_ms
        return SleepingOffer(offer_id=offer.id, provider_slug=provider.slug, placement_id=placement.id)
