"""What Prometheus reads of this process."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from raymart_marketplace.supply.live import EndpointDirectory


def make_registry(directory: EndpointDirectory) -> CollectorRegistry:
    """A registry of one app, so that two of them in one process do not collide."""
    registry = CollectorRegistry()
    registry.register(LiveEndpointMetrics(directory))
    return registry


class LiveEndpointMetrics(Collector):
    """Counts the directory when it is scraped."""

    def __init__(self, directory: EndpointDirectory) -> None:
        self._directory = directory

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Live endpoints, their capacity and their load, by model."""
        endpoints = GaugeMetricFamily(
            "raymart_endpoints_live", "Endpoints that can be routed to.", labels=["model"]
        )
        capacity = GaugeMetricFamily("raymart_capacity_generations", "Generations at once.", labels=["model"])
        running = GaugeMetricFamily(
            "raymart_running_generations", "Generations that run now.", labels=["model"]
        )
        totals: dict[str, list[int]] = {}
        for endpoint in self._directory.all_live():
            counts = totals.setdefault(endpoint.model_slug, [0, 0, 0])
            counts[0] += 1
            counts[1] += endpoint.capacity
            counts[2] += endpoint.running
        for model, counts in totals.items():
            for family, count in zip((endpoints, capacity, running), counts, strict=True):
                family.add_metric([model], count)
        return (endpoints, capacity, running)
