"""The fields of `ProviderNode` about the machine itself."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.usage.arguments import SinceHour, UntilHour

if TYPE_CHECKING:
    from raymart_graphql.schema.machines.types import Benchmark, MachineHour, MachineTelemetry

_TYPES = "raymart_graphql.schema.machines.types"
LazyBenchmark = Annotated["Benchmark", strawberry.lazy(_TYPES)]
LazyMachineTelemetry = Annotated["MachineTelemetry", strawberry.lazy(_TYPES)]
LazyMachineHour = Annotated["MachineHour", strawberry.lazy(_TYPES)]


@strawberry.type
class MachineFields:
    """Part of `ProviderNode`."""

    uuid: strawberry.Private[UUID]

    @listed("What was measured of it, newest first.")
    async def benchmarks(self, info: Info, page: Page) -> Connection[LazyBenchmark]:
        """Benchmarks by id."""
        return await info.context.loaders.machines.benchmarks_of_node.load((self.uuid, page))

    @resolved("How it is doing; null when it has said nothing for a minute, or while that cannot be read.")
    async def telemetry(self, info: Info) -> LazyMachineTelemetry | None:
        """The newest sample, from Redis."""
        return await info.context.loaders.machines.telemetry_of_node.load(self.uuid)

    @resolved("How it and its GPUs were doing by the hour, oldest first; kept for 90 days.")
    async def telemetry_hours(self, info: Info, since: SinceHour, until: UntilHour) -> list[LazyMachineHour]:
        """From the rollups; the present hour grows by the minute."""
        return list(await info.context.loaders.machines.hours_of_node.load((self.uuid, since, until)))
