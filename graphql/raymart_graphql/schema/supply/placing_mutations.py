"""What providers choose of where and when their offers run."""

from dataclasses import replace

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import Warmth
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.pricing.enums import DayOfWeek
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.supply.types import Offer
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.planning.choices import IDLE_S, Choices
from raymart_marketplace.supply.service import set_choices


@strawberry.input(description="Hours of the week, in UTC.")
class WeeklyHoursInput:
    """The same on each of its days."""

    days: list[DayOfWeek] = strawberry.field(description="The days on which they begin.")
    starts_minute: int = strawberry.field(description="Minutes after midnight UTC, 0 to 1,439, inclusive.")
    ends_minute: int = strawberry.field(
        description="1 to 1,440, exclusive; before the start for hours over midnight."
    )


@strawberry.input(description="Where and when an offer runs.")
class SetOfferPlacementInput:
    """It replaces what was chosen before; what is left out has its default."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")
    warmth: Warmth = strawberry.field(
        default=Warmth.WARM, description="Whether replicas are loaded before anybody asks."
    )
    replicas_max: int = strawberry.field(default=1, description="Most replicas on one machine, 1 to 16.")
    nodes_max: int | None = strawberry.field(
        default=None, description="Most machines that it runs on; null for all that take it."
    )
    gpus_max: int | None = strawberry.field(
        default=None, description="Most GPUs of one machine that it may have; null for all."
    )
    idle_seconds: int = strawberry.field(
        default=IDLE_S, description="How long a replica without work stays, 5 to 86,400."
    )
    hours: list[WeeklyHoursInput] = strawberry.field(
        default_factory=list, description="When it may run, 28 ranges at most; always when empty."
    )
    node_ids: list[strawberry.ID] = strawberry.field(
        default_factory=list, description="The machines it may run on, 100 at most; all when empty."
    )


@strawberry.type(description="What setOfferPlacement gives back.")
class SetOfferPlacementPayload(Payload):
    """The offer, or why it is as it was."""

    offer: Offer | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class PlacingMutation:
    """Root fields of the domain."""

    @mutation("Choose where and when an offer runs; it is placed anew at once.")
    async def set_offer_placement(
        self, info: Info, input_: SetOfferPlacementInput
    ) -> SetOfferPlacementPayload:
        """All choices at once."""
        choices = Choices(
            warmth=input_.warmth,
            replicas_max=input_.replicas_max,
            nodes_max=input_.nodes_max,
            gpus_max=input_.gpus_max,
            idle_s=input_.idle_seconds,
            hours=tuple(
                Hours(
                    days=frozenset(day.value for day in each.days),
                    starts_minute=each.starts_minute,
                    ends_minute=each.ends_minute,
                )
                for each in input_.hours
            ),
        )
        node_ids = frozenset(
            parse_global_id(Prefix.NODE, node_id, field="node_ids") for node_id in input_.node_ids
        )
        async with info.context.writing() as session:
            row = await set_choices(
                session,
                offer_id=parse_global_id(Prefix.OFFER, input_.offer_id, field="offer_id"),
                choices=replace(choices, node_ids=node_ids),
            )
        await reprice(info.context.services.directory)
        return SetOfferPlacementPayload(offer=Offer.of(row))
