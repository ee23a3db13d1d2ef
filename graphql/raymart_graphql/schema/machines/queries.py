"""The rules of the benchmark, for everybody."""

import strawberry

from raymart_graphql.fields import resolved
from raymart_graphql.schema.machines.types import BenchmarkRule, KnownGpu
from raymart_marketplace.supply.benchmarks.known_gpus import known_gpus
from raymart_marketplace.supply.benchmarks.rules import RULES


@strawberry.type
class MachineQuery:
    """Root fields of the domain."""

    @resolved("Every rule that a machine is held to before it gets requests, in the order of the checks.")
    async def benchmark_rules(self) -> list[BenchmarkRule]:
        """The rules as they are applied."""
        return [BenchmarkRule.of(rule) for rule in RULES]

    @resolved("The GPU models that are known by their data sheets, by name.")
    async def known_gpus(self) -> list[KnownGpu]:
        """What a card of such a name is held to."""
        return [KnownGpu.of(model) for model in known_gpus()]
