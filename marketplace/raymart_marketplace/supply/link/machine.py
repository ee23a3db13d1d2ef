"""One node's link, as far as the machine itself goes: how it is doing is kept, and what it can do is measured."""

from raymart_core.wire.link import Hardware
from raymart_core.wire.machine import BenchmarkData, BenchmarkResult, Telemetry
from raymart_marketplace.supply.link.benchmarks import BenchmarkDuty
from raymart_marketplace.supply.link.context import LinkContext


class MachineDuty:
    """Told by its `NodeDuty`, which runs it beside its own work. Does nothing where the marketplace wants neither."""

    def __init__(self, context: LinkContext) -> None:
        self._node_id = context.identity.node_id
        self._telemetry = context.telemetry
        self._benchmarks = BenchmarkDuty(context, context.benchmarks) if context.benchmarks else None

    def announced(self, hardware: Hardware) -> None:
        """What the node has now."""
        if self._benchmarks is not None:
            self._benchmarks.announced(hardware)

    def take(self, message: Telemetry | BenchmarkResult | BenchmarkData) -> None:
        """Note it in memory."""
        if isinstance(message, Telemetry):
            if self._telemetry is not None:
                self._telemetry.add(self._node_id, message)
        elif self._benchmarks is not None:
            self._benchmarks.take(message)

    async def run(self) -> None:
        """Measure the node whenever that is due, until cancelled."""
        if self._benchmarks is not None:
            await self._benchmarks.run()

    def lost(self) -> None:
        """The link is gone."""
        if self._telemetry is not None:
            self._telemetry.forget(self._node_id)
        if self._benchmarks is not None:
            self._benchmarks.lost()
