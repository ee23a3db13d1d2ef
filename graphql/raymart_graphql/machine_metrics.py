"""What Prometheus reads of the machines whose links are in this process. Sum over the processes for the whole market."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raymart_core.wire.machine import GpuSample
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.telemetry import TelemetryBook


class MachineMetrics(Collector):
    """Reads the newest samples when it is scraped. No machine is a label: there may be ten thousand."""

    def __init__(self, telemetry: TelemetryBook, benchmarks: BenchmarkDesk) -> None:
        self._telemetry = telemetry
        self._benchmarks = benchmarks

    def collect(self) -> Iterable[Metric]:
        """Machines and GPUs that tell how they are doing, and how benchmarks ended."""
        machines = list(self._telemetry.newest.values())
        yield _gauge("raymart_machines_reporting", "Machines that tell how they are doing.", len(machines))
        busy = [machine.cpu_percent for machine in machines]
        yield _gauge("raymart_machines_cpu_percent", "Mean use of their processors.", _mean(busy))
        yield from self._gpus([gpu for machine in machines for gpu in machine.gpus])
        outcomes = CounterMetricFamily(
            "raymart_benchmarks", "How benchmarks ended: passed, or each reason.", labels=["outcome"]
        )
        for outcome, count in sorted(self._benchmarks.outcomes.items()):
            outcomes.add_metric([outcome], count)
        yield outcomes

    def _gpus(self, gpus: Sequence[GpuSample]) -> Iterable[Metric]:
        busy = [gpu.utilisation_percent for gpu in gpus if gpu.utilisation_percent is not None]
        hot = [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
        yield _gauge("raymart_gpus_reporting", "GPUs that tell how they are doing.", len(gpus))
        yield _gauge("raymart_gpus_utilisation_percent", "Mean use of the GPUs.", _mean(busy))
        yield _gauge("raymart_gpus_temperature_celsius_max", "The hottest GPU.", max(hot, default=0.0))
        yield _gauge(
            "raymart_gpus_power_watts", "What they take together.", sum(gpu.power_w or 0 for gpu in gpus)
        )
        yield _gauge(
            "raymart_gpus_uncorrected_errors",
            "Memory errors that were not corrected, since their drivers were loaded. Alarm: over 0.",
            sum(gpu.ecc_uncorrected_total or 0 for gpu in gpus),
        )


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
