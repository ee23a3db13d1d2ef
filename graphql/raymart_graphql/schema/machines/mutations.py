"""Asking for a benchmark."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.machines.types import Benchmark
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply.benchmarks.records import request


@strawberry.input(description="A machine to measure.")
class RunBenchmarkInput:
    """It gets no requests while it is measured."""

    node_id: strawberry.ID = strawberry.field(description="Which machine.")


@strawberry.type(description="What runBenchmark gives back.")
class RunBenchmarkPayload(Payload):
    """The benchmark that was asked for, or why there is none."""

    benchmark: Benchmark | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class MachineMutation:
    """Root fields of the domain."""

    @mutation(
        "Measure a machine anew, as soon as its link is up: a few seconds in which it gets no requests. While one is "
        "asked for or running, a repeat gives back that one."
    )
    async def run_benchmark(self, info: Info, input_: RunBenchmarkInput) -> RunBenchmarkPayload:
        """In this process at once, in the others within seconds."""
        node_id = parse_global_id(Prefix.NODE, input_.node_id, field="node_id")
        principal = await info.context.principal()
        async with info.context.writing() as session:
            row = await request(session, node_id=node_id, asked_by=principal.user_id)
        info.context.services.benchmarks.kick(node_id)
        return RunBenchmarkPayload(benchmark=Benchmark.of(row))
