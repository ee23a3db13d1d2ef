"""What providers sell, and on which machines: opening, pausing, draining and ending."""

from collections.abc import Awaitable
from decimal import Decimal
from functools import partial
from typing import Protocol
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.pricing.units import UnitAskInput, offer_asks
from raymart_graphql.schema.supply.types import Offer, ProviderNode
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply import draining, models, service

NULL = "Null when there are user errors."


@strawberry.input(description="A revision to sell.")
class OpenOfferInput:
    """On every machine of the provider, present and to come."""

    provider_id: strawberry.ID = strawberry.field(description="Who sells.")
    revision_id: strawberry.ID = strawberry.field(description="Which revision; one that is published.")
    prompt: Decimal | None = strawberry.field(
        default=None,
        description="US dollars for one prompt token, such as '0.000000150'; null for the rate card's price.",
    )
    completion: Decimal | None = strawberry.field(
        default=None, description="US dollars for one generated token; null for the rate card's price."
    )
    asks: list[UnitAskInput] = strawberry.field(
        default_factory=list,
        description="Of any unit, such as the megapixel-steps of an image model; without a price it sells at the "
        "rate card's.",
    )


@strawberry.input(description="An offer to take out of routing for now.")
class PauseOfferInput:
    """Its replicas stay loaded."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")


@strawberry.input(description="A paused offer to sell again.")
class ResumeOfferInput:
    """From the next request on."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")


@strawberry.input(description="An offer to end.")
class CloseOfferInput:
    """Its replicas go; another offer of the revision may be opened later."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")


@strawberry.input(description="A machine that is to get no new requests.")
class DrainNodeInput:
    """What runs there goes on."""

    node_id: strawberry.ID = strawberry.field(description="Which machine.")
    notice_seconds: int = strawberry.field(
        default=0,
        description="What still runs after so long may be cut, at most a day; 0 lets all of it end by itself.",
    )
    reason: str = strawberry.field(default="", description="Why, for the machine's history.")


@strawberry.input(description="A drained machine that is to get requests again.")
class ResumeNodeInput:
    """As soon as its link is up."""

    node_id: strawberry.ID = strawberry.field(description="Which machine.")


@strawberry.input(description="A machine to take out for good.")
class RetireNodeInput:
    """Its key is revoked; drain it first and wait, if requests that run there matter."""

    node_id: strawberry.ID = strawberry.field(description="Which machine.")
    reason: str = strawberry.field(default="", description="Why, for the machine's history.")


@strawberry.type(description="What openOffer gives back.")
class OpenOfferPayload(Payload):
    """The offer, or why there is none."""

    offer: Offer | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What pauseOffer gives back.")
class PauseOfferPayload(Payload):
    """The offer, or why it still sells."""

    offer: Offer | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What resumeOffer gives back.")
class ResumeOfferPayload(Payload):
    """The offer, or why it does not sell."""

    offer: Offer | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What closeOffer gives back.")
class CloseOfferPayload(Payload):
    """The closed offer, or why it is not."""

    offer: Offer | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What drainNode gives back.")
class DrainNodePayload(Payload):
    """The draining machine, or why it is not."""

    node: ProviderNode | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What resumeNode gives back.")
class ResumeNodePayload(Payload):
    """The machine, or why it still drains."""

    node: ProviderNode | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What retireNode gives back.")
class RetireNodePayload(Payload):
    """The retired machine, or why it is not."""

    node: ProviderNode | None = strawberry.field(default=None, description=NULL)


@strawberry.type
class SupplyLifecycleMutation:
    """Root fields of the domain, beside those in `mutations.py`."""

    @mutation("Sell a revision on all of the provider's machines. For those who manage its offers.")
    async def open_offer(self, info: Info, input_: OpenOfferInput) -> OpenOfferPayload:
        """At most one offer a revision is open or paused."""
        async with info.context.writing() as session:
            row = await service.open_offer(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                revision_id=parse_global_id(Prefix.REVISION, input_.revision_id, field="revision_id"),
                ask_prompt_nano_usd=None,
                ask_completion_nano_usd=None,
                asks=offer_asks(input_.asks, prompt=input_.prompt, completion=input_.completion),
            )
        await reprice(info.context.services.directory)
        return OpenOfferPayload(offer=Offer.of(row))

    @mutation("Take an offer out of routing; its replicas stay loaded. A repeat changes nothing.")
    async def pause_offer(self, info: Info, input_: PauseOfferInput) -> PauseOfferPayload:
        """What runs is finished."""
        return PauseOfferPayload(offer=await _offer(info, service.pause_offer, input_.offer_id))

    @mutation("Let a paused offer sell again. A repeat changes nothing.")
    async def resume_offer(self, info: Info, input_: ResumeOfferInput) -> ResumeOfferPayload:
        """From the next request on."""
        return ResumeOfferPayload(offer=await _offer(info, service.resume_offer, input_.offer_id))

    @mutation("End an offer and take its replicas away.")
    async def close_offer(self, info: Info, input_: CloseOfferInput) -> CloseOfferPayload:
        """For good; another may be opened."""
        return CloseOfferPayload(offer=await _offer(info, service.close_offer, input_.offer_id))

    @mutation("Send a machine no new requests; what runs there goes on. A repeat changes nothing.")
    async def drain_node(self, info: Info, input_: DrainNodeInput) -> DrainNodePayload:
        """In this process at once, in the others within seconds."""
        change = partial(draining.drain_node, notice_s=input_.notice_seconds, reason=input_.reason)
        return DrainNodePayload(node=await _node(info, change, input_.node_id))

    @mutation("Send a drained machine requests again. A repeat changes nothing.")
    async def resume_node(self, info: Info, input_: ResumeNodeInput) -> ResumeNodePayload:
        """As soon as its link is up."""
        return ResumeNodePayload(node=await _node(info, draining.resume_node, input_.node_id))

    @mutation("Take a machine out for good: its key is revoked and its link ends.")
    async def retire_node(self, info: Info, input_: RetireNodeInput) -> RetireNodePayload:
        """Its name and its hardware may enrol again."""
        node = await _node(info, partial(service.revoke_node, reason=input_.reason), input_.node_id)
        node_id = parse_global_id(Prefix.NODE, input_.node_id, field="node_id")
        info.context.services.link.disconnect(node_id)
        return RetireNodePayload(node=node)


class _OfferChange(Protocol):
    def __call__(self, session: AsyncSession, *, offer_id: UUID) -> Awaitable[models.Offer]: ...


class _NodeChange(Protocol):
    def __call__(self, session: AsyncSession, *, node_id: UUID) -> Awaitable[models.Node]: ...


async def _offer(info: Info, change: _OfferChange, text: str) -> Offer:
    async with info.context.writing() as session:
        row = await change(session, offer_id=parse_global_id(Prefix.OFFER, text, field="offer_id"))
    await reprice(info.context.services.directory)
    return Offer.of(row)


async def _node(info: Info, change: _NodeChange, text: str) -> ProviderNode:
    async with info.context.writing() as session:
        row = await change(session, node_id=parse_global_id(Prefix.NODE, text, field="node_id"))
    await reprice(info.context.services.directory)
    return ProviderNode.of(row)
