"""Where offers run and why not, and what providers choose of it."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.enums import ModelStanding, PlacementMisfit, Warmth
from raymart_graphql.relay import global_id
from raymart_graphql.schema.pricing.enums import DayOfWeek
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.planning.choices import Choices
from raymart_marketplace.supply.planning.standing import standing_of
from raymart_marketplace.supply.planning.tables import ModelPlacement as ModelPlacementRow
from raymart_marketplace.supply.planning.tables import PlacementRejection as PlacementRejectionRow


@strawberry.type(description="Hours of the week, in UTC.")
class WeeklyHours:
    """The same on each of its days."""

    days: list[DayOfWeek] = strawberry.field(description="The days on which they begin.")
    starts_minute: int = strawberry.field(description="Minutes after midnight UTC, inclusive.")
    ends_minute: int = strawberry.field(
        description="Minutes after midnight UTC, exclusive; not after the start for hours over midnight."
    )

    @classmethod
    def of(cls, hours: Hours) -> "WeeklyHours":
        """`hours` as the API shows them."""
        return cls(
            days=[DayOfWeek(day) for day in sorted(hours.days)],
            starts_minute=hours.starts_minute,
            ends_minute=hours.ends_minute,
        )


@strawberry.type(description="What its provider chose of where and when an offer runs.")
class OfferPlacement:
    """For the provider's members."""

    warmth: Warmth = strawberry.field(description="Whether replicas are loaded before anybody asks.")
    replicas_max: int = strawberry.field(description="Most replicas on one machine.")
    nodes_max: int | None = strawberry.field(
        description="Most machines that it runs on; null for all that take it."
    )
    gpus_max: int | None = strawberry.field(
        description="Most GPUs of one machine that it may have; null for all."
    )
    idle_seconds: int = strawberry.field(description="How long a replica without work stays.")
    hours: list[WeeklyHours] = strawberry.field(description="When it may run; always when empty.")
    node_ids: list[strawberry.ID] = strawberry.field(
        description="The machines it may run on; all of the provider's when empty."
    )

    @classmethod
    def of(cls, choices: Choices) -> "OfferPlacement":
        """`choices` as the API shows them."""
        return cls(
            warmth=choices.warmth,
            replicas_max=choices.replicas_max,
            nodes_max=choices.nodes_max,
            gpus_max=choices.gpus_max,
            idle_seconds=choices.idle_s,
            hours=[WeeklyHours.of(hours) for hours in choices.hours],
            node_ids=[global_id(Prefix.NODE, node_id) for node_id in sorted(choices.node_ids)],
        )


@strawberry.type(description="A machine on which an open offer is not placed.")
class PlacementRejection:
    """For the provider's members."""

    uuid: strawberry.Private[UUID]
    node_id: strawberry.ID | None = strawberry.field(
        description="Which machine; null where the provider has none."
    )
    reason: PlacementMisfit = strawberry.field(description="Why.")
    detail: str = strawberry.field(description="A sentence with value and limit.")
    since: datetime = strawberry.field(description="Since when this is the reason.")

    @classmethod
    def of(cls, row: PlacementRejectionRow) -> "PlacementRejection":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            node_id=None if row.node_id is None else global_id(Prefix.NODE, row.node_id),
            reason=row.misfit,
            detail=row.detail,
            since=row.created_at,
        )


@strawberry.type(description="How many machines do not take a model, for one reason.")
class MisfitCount:
    """Over all providers."""

    reason: PlacementMisfit = strawberry.field(description="Why.")
    machines: int = strawberry.field(description="How many machines.")


@strawberry.type(description="Whether a model is placed, and if not, why; as of some seconds ago.")
class ModelPlacement:
    """Public."""

    standing: ModelStanding = strawberry.field(description="In one word.")
    offers: int = strawberry.field(description="Open offers of it.")
    placements: int = strawberry.field(description="Machines that it should run on.")
    running: int = strawberry.field(description="Of these, those that serve it.")
    sleeping: int = strawberry.field(description="Of these, those that wake when it is asked for.")
    requests_waiting: int = strawberry.field(description="Requests that wait for it.")
    misfits: list[MisfitCount] = strawberry.field(
        description="Why machines whose providers offer it do not take it."
    )
    updated_at: datetime = strawberry.field(description="When any of this changed last.")

    @classmethod
    def of(cls, row: ModelPlacementRow) -> "ModelPlacement":
        """`row` as the API shows it."""
        return cls(
            standing=standing_of(row),
            offers=row.offers,
            placements=row.placed,
            running=row.running,
            sleeping=row.sleeping,
            requests_waiting=row.waiting,
            misfits=[
                MisfitCount(reason=PlacementMisfit(name), machines=count)
                for name, count in sorted(row.misfits.items())
            ],
            updated_at=row.updated_at,
        )
