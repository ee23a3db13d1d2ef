"""What the marketplace rules about prices, and when and below what an offer sells."""

from uuid import UUID

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.pricing.inputs import (
    OfferWindowInput,
    PublishRateCardInput,
    PublishRateCardPayload,
    RetireRateCardInput,
    RetireRateCardPayload,
    SetFeeScheduleInput,
    SetFeeSchedulePayload,
    SetOfferFloorInput,
    SetOfferFloorPayload,
    SetOfferWindowsInput,
    SetOfferWindowsPayload,
    SetPriceCapInput,
    SetPriceCapPayload,
)
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.pricing.types import FeeSchedule, PriceCap, RateCard
from raymart_graphql.schema.pricing.units import nano_usd, parse_prices
from raymart_graphql.schema.supply.types import Offer
from raymart_marketplace.pricing import service
from raymart_marketplace.pricing.effective import Window
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.service import set_floors, set_windows


@strawberry.type
class PricingMutation:
    """Root fields of the domain."""

    @mutation("Publish the next version of a model's prices. For administrators.")
    async def publish_rate_card(self, info: Info, input_: PublishRateCardInput) -> PublishRateCardPayload:
        """In effect from now on, or from a later time."""
        async with info.context.writing() as session:
            card = await service.publish_rate_card(
                session,
                model_id=parse_global_id(Prefix.MODEL, input_.model_id, field="model_id"),
                revision_id=_id(Prefix.REVISION, input_.revision_id, "revision_id"),
                prices=parse_prices(input_.prices, field="prices"),
                effective_from=input_.effective_from,
                effective_to=input_.effective_to,
                actor_id=await _actor(info),
            )
        await reprice(info.context.services.directory)
        return PublishRateCardPayload(rate_card=RateCard.of(card))

    @mutation("End a rate card now, or before it begins. For administrators.")
    async def retire_rate_card(self, info: Info, input_: RetireRateCardInput) -> RetireRateCardPayload:
        """A repeat changes nothing."""
        async with info.context.writing() as session:
            card = await service.retire_rate_card(
                session,
                model_id=parse_global_id(Prefix.MODEL, input_.model_id, field="model_id"),
                revision_id=_id(Prefix.REVISION, input_.revision_id, "revision_id"),
                version=input_.version,
            )
        await reprice(info.context.services.directory)
        return RetireRateCardPayload(rate_card=RateCard.of(card))

    @mutation("Cap what may be asked for a unit, or end its cap. For administrators.")
    async def set_price_cap(self, info: Info, input_: SetPriceCapInput) -> SetPriceCapPayload:
        """It replaces the cap of the same unit and model."""
        async with info.context.writing() as session:
            cap = await service.set_price_cap(
                session,
                unit=input_.unit,
                max_nano_usd=None if input_.max is None else nano_usd(input_.max, "max"),
                model_id=_id(Prefix.MODEL, input_.model_id, "model_id"),
                effective_from=input_.effective_from,
                effective_to=input_.effective_to,
                reason=input_.reason,
                actor_id=await _actor(info),
            )
        await reprice(info.context.services.directory)
        return SetPriceCapPayload(price_cap=PriceCap.of(cap) if cap is not None else None)

    @mutation("Set the platform's share of what customers pay. For administrators.")
    async def set_fee_schedule(self, info: Info, input_: SetFeeScheduleInput) -> SetFeeSchedulePayload:
        """It replaces the schedule of the same provider and model."""
        async with info.context.writing() as session:
            schedule = await service.set_fee_schedule(
                session,
                basis_points=input_.basis_points,
                provider_id=_id(Prefix.PROVIDER, input_.provider_id, "provider_id"),
                model_id=_id(Prefix.MODEL, input_.model_id, "model_id"),
                effective_from=input_.effective_from,
                effective_to=input_.effective_to,
                reason=input_.reason,
                actor_id=await _actor(info),
            )
        await reprice(info.context.services.directory)
        return SetFeeSchedulePayload(fee_schedule=FeeSchedule.of(schedule))

    @mutation("Set the hours in which an offer asks other prices.")
    async def set_offer_windows(self, info: Info, input_: SetOfferWindowsInput) -> SetOfferWindowsPayload:
        """All of them at once."""
        windows = [_window(each, field=f"windows[{n}]") for n, each in enumerate(input_.windows)]
        async with info.context.writing() as session:
            row = await set_windows(
                session,
                offer_id=parse_global_id(Prefix.OFFER, input_.offer_id, field="offer_id"),
                windows=windows,
            )
        await reprice(info.context.services.directory)
        return SetOfferWindowsPayload(offer=Offer.of(row))

    @mutation("Set the least that an offer sells at.")
    async def set_offer_floor(self, info: Info, input_: SetOfferFloorInput) -> SetOfferFloorPayload:
        """By unit."""
        async with info.context.writing() as session:
            row = await set_floors(
                session,
                offer_id=parse_global_id(Prefix.OFFER, input_.offer_id, field="offer_id"),
                floors=parse_prices(input_.floors, field="floors"),
            )
        await reprice(info.context.services.directory)
        return SetOfferFloorPayload(offer=Offer.of(row))


def _window(given: OfferWindowInput, *, field: str) -> Window:
    days = frozenset(day.value for day in given.days)
    if len(days) != len(given.days):
        raise InvalidRequest("a day is named twice; name each once", param=field)
    hours = Hours(days=days, starts_minute=given.starts_minute, ends_minute=given.ends_minute)
    return Window(hours=hours, basis_points=given.basis_points, asks=parse_prices(given.asks, field=field))


def _id(prefix: Prefix, text: strawberry.ID | None, field: str) -> UUID | None:
    return None if text is None else parse_global_id(prefix, text, field=field)


async def _actor(info: Info) -> UUID | None:
    return (await info.context.principal()).user_id
