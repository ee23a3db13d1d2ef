"""Maintenance windows of machines."""

from datetime import datetime

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.supply.life_types import MaintenanceWindow
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply.draining import cancel_maintenance, plan_maintenance


@strawberry.input(description="A time in which a machine takes no requests.")
class ScheduleMaintenanceInput:
    """At most 90 days ahead and 30 days long; windows of a machine do not overlap."""

    node_id: strawberry.ID = strawberry.field(description="Which machine.")
    starts_at: datetime = strawberry.field(description="When it is to be free.")
    ends_at: datetime = strawberry.field(description="When it takes requests again.")
    notice_seconds: int = strawberry.field(
        default=0,
        description="So long before the start it gets its last new request, at most a day: what runs may end.",
    )
    reason: str = strawberry.field(default="", description="Why, for the machine's history.")


@strawberry.input(description="A maintenance window to call off.")
class CancelMaintenanceInput:
    """One that is under way ends, and the machine takes requests again."""

    node_id: strawberry.ID = strawberry.field(description="Whose machine's.")
    window_id: strawberry.ID = strawberry.field(description="Which window.")


@strawberry.type(description="What scheduleMaintenance gives back.")
class ScheduleMaintenancePayload(Payload):
    """The window, or why there is none."""

    window: MaintenanceWindow | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="What cancelMaintenance gives back.")
class CancelMaintenancePayload(Payload):
    """The window, or why it stands."""

    window: MaintenanceWindow | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class MaintenanceMutation:
    """Root fields of the domain."""

    @mutation("Plan a time in which a machine takes no requests; it starts and ends by itself.")
    async def schedule_maintenance(
        self, info: Info, input_: ScheduleMaintenanceInput
    ) -> ScheduleMaintenancePayload:
        """Within two seconds of its times."""
        principal = await info.context.principal()
        async with info.context.writing() as session:
            row = await plan_maintenance(
                session,
                node_id=parse_global_id(Prefix.NODE, input_.node_id, field="node_id"),
                starts_at=input_.starts_at,
                ends_at=input_.ends_at,
                notice_s=input_.notice_seconds,
                reason=input_.reason,
                user_id=principal.user_id,
            )
        return ScheduleMaintenancePayload(window=MaintenanceWindow.of(row))

    @mutation("Call a maintenance window off. A repeat changes nothing.")
    async def cancel_maintenance(
        self, info: Info, input_: CancelMaintenanceInput
    ) -> CancelMaintenancePayload:
        """The machine takes requests again if it was drained for this."""
        async with info.context.writing() as session:
            row = await cancel_maintenance(
                session,
                node_id=parse_global_id(Prefix.NODE, input_.node_id, field="node_id"),
                window_id=parse_global_id(Prefix.MAINTENANCE, input_.window_id, field="window_id"),
            )
        await reprice(info.context.services.directory)
        return CancelMaintenancePayload(window=MaintenanceWindow.of(row))
