"""What pricing's mutations are asked for, and what they give back."""

from datetime import datetime
from decimal import Decimal

import strawberry

from raymart_graphql.schema.pricing.enums import DayOfWeek, Unit
from raymart_graphql.schema.pricing.types import FeeSchedule, PriceCap, RateCard
from raymart_graphql.schema.pricing.units import UnitPriceInput
from raymart_graphql.schema.supply.types import Offer
from raymart_graphql.schema.user_error import Payload


@strawberry.input(description="The next version of a model's prices, or of one revision's.")
class PublishRateCardInput:
    """Whatever card is in effect at its start ends then."""

    model_id: strawberry.ID = strawberry.field(description="Whose prices.")
    revision_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only this revision; null for every one of the model."
    )
    prices: list[UnitPriceInput] = strawberry.field(description="By unit; what is not named has no price.")
    effective_from: datetime | None = strawberry.field(
        default=None, description="When it takes effect; null for now."
    )
    effective_to: datetime | None = strawberry.field(default=None, description="When it ends; null for open.")


@strawberry.type(description="What publishRateCard gives back.")
class PublishRateCardPayload(Payload):
    """The card, or why there is none."""

    rate_card: RateCard | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="Which rate card to end.")
class RetireRateCardInput:
    """It ends now; one that has not begun never begins."""

    model_id: strawberry.ID = strawberry.field(description="Whose card.")
    revision_id: strawberry.ID | None = strawberry.field(
        default=None, description="The revision it is for; null for the model's own."
    )
    version: int = strawberry.field(description="Which version.")


@strawberry.type(description="What retireRateCard gives back.")
class RetireRateCardPayload(Payload):
    """The ended card, or why it is not."""

    rate_card: RateCard | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="The most that may be asked for a unit, everywhere or of one model.")
class SetPriceCapInput:
    """Asks above it sell at it, or not at all where their floor is above it."""

    unit: Unit = strawberry.field(description="What is capped.")
    max: Decimal | None = strawberry.field(
        default=None, description="US dollars for one of it; null ends the cap there is."
    )
    model_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only this model; null for all."
    )
    effective_from: datetime | None = strawberry.field(
        default=None, description="When it takes effect; null for now."
    )
    effective_to: datetime | None = strawberry.field(default=None, description="When it ends; null for open.")
    reason: str = strawberry.field(description="Why, in 1 to 500 characters.")


@strawberry.type(description="What setPriceCap gives back.")
class SetPriceCapPayload(Payload):
    """The cap, or why there is none."""

    price_cap: PriceCap | None = strawberry.field(
        default=None, description="Null when a cap was ended, or when there are user errors."
    )


@strawberry.input(
    description="The platform's share, for all, one provider, one model, or one provider's one model."
)
class SetFeeScheduleInput:
    """The most specific one binds."""

    basis_points: int = strawberry.field(description="In hundredths of a percent, 0 to 10,000.")
    provider_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only this provider; null for all."
    )
    model_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only this model; null for all."
    )
    effective_from: datetime | None = strawberry.field(
        default=None, description="When it takes effect; null for now."
    )
    effective_to: datetime | None = strawberry.field(default=None, description="When it ends; null for open.")
    reason: str = strawberry.field(description="Why, in 1 to 500 characters.")


@strawberry.type(description="What setFeeSchedule gives back.")
class SetFeeSchedulePayload(Payload):
    """The schedule, or why there is none."""

    fee_schedule: FeeSchedule | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="Hours of the week, in UTC, with other prices.")
class OfferWindowInput:
    """Either `basisPoints` or `asks`."""

    days: list[DayOfWeek] = strawberry.field(description="The days on which it begins.")
    starts_minute: int = strawberry.field(description="Minutes after midnight UTC, 0 to 1,439, inclusive.")
    ends_minute: int = strawberry.field(
        description="1 to 1,440, exclusive; before the start for a window over midnight."
    )
    basis_points: int | None = strawberry.field(
        default=None, description="Of the base price, 1 to 100,000: 5,000 is half of it."
    )
    asks: list[UnitPriceInput] = strawberry.field(
        default_factory=list, description="Prices of its own; other units keep the base price."
    )


@strawberry.input(description="All windows of an offer.")
class SetOfferWindowsInput:
    """They replace those there are."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")
    windows: list[OfferWindowInput] = strawberry.field(
        description="At most 50, no two of which share a minute; none removes them."
    )


@strawberry.type(description="What setOfferWindows gives back.")
class SetOfferWindowsPayload(Payload):
    """The changed offer, or why it is not."""

    offer: Offer | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="The least that an offer sells at.")
class SetOfferFloorInput:
    """Neither a window nor a cap takes the price below it: with a cap below it the offer is not sold."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")
    floors: list[UnitPriceInput] = strawberry.field(
        description="By unit; '0' for no floor, and units that are not named keep theirs."
    )


@strawberry.type(description="What setOfferFloor gives back.")
class SetOfferFloorPayload(Payload):
    """The changed offer, or why it is not."""

    offer: Offer | None = strawberry.field(default=None, description="Null when there are user errors.")
