"""Benchmarks with what they found, the rules they go by, and telemetry."""

from datetime import UTC, datetime
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_core.wire.machine import Telemetry
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import expose
from raymart_graphql.fields import resolved
from raymart_graphql.relay import Node, global_id
from raymart_graphql.scalars import BigInt
from raymart_marketplace.supply.benchmarks import known_gpus, models, rules
from raymart_marketplace.supply.benchmarks.models import BenchmarkCause, BenchmarkState
from raymart_marketplace.supply.telemetry import NodeRecord
from raymart_marketplace.supply.telemetry_hours import TelemetryHour

expose(
    BenchmarkState,
    name="BenchmarkState",
    description="Where a benchmark stands.",
    values={
        "REQUESTED": "Begins as soon as the machine's link is up.",
        "RUNNING": "The machine is measured and gets no requests.",
        "PASSED": "Every check holds.",
        "FAILED": "A check does not; its reason says which.",
        "LOST": "It was interrupted; another follows.",
    },
)
expose(
    BenchmarkCause,
    name="BenchmarkCause",
    description="Why a machine is measured.",
    values={
        "NEW": "It was never measured.",
        "CHANGED": "Its hardware is not what was measured.",
        "AGAIN": "The last benchmark failed or was interrupted.",
        "ASKED": "Somebody asked for it.",
    },
)

__all__ = ["Benchmark", "BenchmarkCause", "BenchmarkState"]


@strawberry.type(description="What one check of a benchmark found.")
class BenchmarkCheck:
    """Its rule is among `benchmarkRules`."""

    check: str = strawberry.field(description="Name of the check and of its rule.")
    device: str = strawberry.field(description="UUID of the GPU or slice; empty for the machine.")
    value: float | None = strawberry.field(description="In the rule's unit; null when there is none.")
    limit: float | None = strawberry.field(description="What the value was held against; null for none.")
    passed: bool = strawberry.field(description="Whether the rule holds.")
    reason: str | None = strawberry.field(
        description="Name of the failure, such as 'gpu_too_slow_for_model'; null when it passed."
    )
    message: str = strawberry.field(description="What was found, in words; may be empty.")

    @classmethod
    def of(cls, row: models.BenchmarkCheck) -> "BenchmarkCheck":
        """`row` as the API shows it."""
        return cls(
            check=row.check_name,
            device=row.device,
            value=row.value,
            limit=row.limit_value,
            passed=row.passed,
            reason=row.reason,
            message=row.message,
        )


@strawberry.type(description="One measurement of a machine, asked for or done.")
class Benchmark(Node):
    """Visible to the provider's members."""

    uuid: strawberry.Private[UUID]
    node_uuid: strawberry.Private[UUID]
    state: BenchmarkState = strawberry.field(description="Where it stands.")
    cause: BenchmarkCause = strawberry.field(description="Why it is done.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When it began; null before.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null before.")

    @classmethod
    def of(cls, row: models.Benchmark) -> "Benchmark":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.BENCHMARK, row.id),
            uuid=row.id,
            node_uuid=row.node_id,
            state=row.state,
            cause=row.cause,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )

    async def owner(self, operation: Operation) -> UUID | None:
        """The organization of the machine's provider."""
        node = await operation.loaders.supply.node.load_known(self.node_uuid)
        return await node.owner(operation)

    @resolved("What each check found, in order; empty before its end. At most a few per GPU.")
    async def checks(self, info: Info) -> list[BenchmarkCheck]:
        """By position."""
        return list(await info.context.loaders.machines.checks_of_benchmark.load(self.uuid))


@strawberry.type(description="One rule that every machine is held to before it gets requests.")
class BenchmarkRule:
    """Public, as it is applied."""

    check: str = strawberry.field(description="Name of the check.")
    what: str = strawberry.field(description="What is measured.")
    unit: str = strawberry.field(description="Unit of value and limit; empty for none.")
    least: float | None = strawberry.field(description="The value must reach this; null for no such limit.")
    most: float | None = strawberry.field(
        description="The value must not be above this; null for no such limit."
    )
    share_of_model: float | None = strawberry.field(
        description="Share of the GPU model's data sheet that must be reached, where the model is known; null otherwise."
    )
    of_gpu: bool = strawberry.field(description="Whether each GPU or slice is checked.")
    why: str = strawberry.field(description="Why there is such a rule.")
    reasons: list[str] = strawberry.field(description="How the check may fail, by name.")

    @classmethod
    def of(cls, rule: rules.Rule) -> "BenchmarkRule":
        """`rule` as the API shows it."""
        return cls(
            check=rule.check,
            what=rule.what,
            unit=rule.unit,
            least=rule.least,
            most=rule.most,
            share_of_model=rule.share_of_model,
            of_gpu=rule.of_gpu,
            why=rule.why,
            reasons=[reason.value for reason in (*rule.reasons, *rules.GENERAL_REASONS)],
        )


@strawberry.type(description="A GPU model that is known here by its data sheet.")
class KnownGpu:
    """Public: what a card of this name is held to."""

    name: str = strawberry.field(description="As the driver gives it.")
    memory_gib: int = strawberry.field(description="Memory, in GiB.")
    multiprocessors: int = strawberry.field(description="Streaming multiprocessors.")
    compute_capability: str = strawberry.field(description="Such as '9.0'.")
    tensor_tflops: float = strawberry.field(
        description="Dense float16 tensor throughput, in 10^12 operations a second."
    )
    bandwidth_gb_s: float = strawberry.field(description="Memory bandwidth, in 10^9 bytes a second.")

    @classmethod
    def of(cls, model: known_gpus.KnownGpu) -> "KnownGpu":
        """`model` as the API shows it."""
        return cls(
            name=model.name,
            memory_gib=model.memory_gib,
            multiprocessors=model.multiprocessors,
            compute_capability=model.compute_capability,
            tensor_tflops=model.tensor_tflops,
            bandwidth_gb_s=model.bandwidth_gb_s,
        )


@strawberry.type(description="How one GPU is doing; null is what the card does not tell.")
class GpuTelemetry:
    """A part of a machine's newest sample."""

    uuid: str = strawberry.field(description="The driver's id of the card.")
    utilisation_percent: float | None = strawberry.field(description="0 to 100.")
    memory_used_bytes: BigInt | None = strawberry.field(description="Memory in use, in bytes.")
    temperature_c: float | None = strawberry.field(description="Degrees Celsius.")
    power_w: float | None = strawberry.field(description="Watts.")
    ecc_uncorrected_total: BigInt | None = strawberry.field(
        description="Memory errors that were not corrected, since the driver was loaded."
    )


@strawberry.type(description="How a machine is doing, by its newest sample of ten seconds.")
class MachineTelemetry:
    """Visible to the provider's members."""

    sampled_at: datetime = strawberry.field(description="When the sample came.")
    cpu_percent: float = strawberry.field(description="Of all processors, 0 to 100.")
    memory_used_bytes: BigInt = strawberry.field(description="Main memory in use, in bytes.")
    disk_free_bytes: BigInt = strawberry.field(description="Free where models are kept, in bytes.")
    gpus: list[GpuTelemetry] = strawberry.field(description="Its GPUs; at most a few.")

    @classmethod
    def of(cls, record: NodeRecord) -> "MachineTelemetry":
        """`record` as the API shows it."""
        newest = record.newest
        return cls(
            sampled_at=datetime.fromtimestamp(record.at_s, UTC),
            cpu_percent=newest.cpu_percent,
            memory_used_bytes=BigInt(newest.memory_used_bytes),
            disk_free_bytes=BigInt(newest.disk_free_bytes),
            gpus=_gpus(newest),
        )


@strawberry.type(description="One hour of a machine or of one of its GPUs, from samples of ten seconds.")
class MachineHour:
    """Visible to the provider's members."""

    starts_at: datetime = strawberry.field(description="The hour's first moment.")
    device: str = strawberry.field(description="UUID of the GPU; empty for the machine.")
    samples: int = strawberry.field(description="How many samples it is made of.")
    utilisation_percent: float = strawberry.field(description="Mean, 0 to 100.")
    utilisation_percent_max: float = strawberry.field(description="Highest sample.")
    memory_used_bytes: BigInt = strawberry.field(description="Mean, in bytes.")
    memory_used_bytes_max: BigInt = strawberry.field(description="Highest sample, in bytes.")
    temperature_c_max: float | None = strawberry.field(description="Degrees Celsius; null where not told.")
    power_w: float | None = strawberry.field(description="Mean, in watts; null where not told.")
    disk_free_bytes_min: BigInt | None = strawberry.field(
        description="Lowest sample, in bytes; null for a GPU."
    )
    ecc_uncorrected_total: BigInt | None = strawberry.field(
        description="The last count of uncorrected memory errors; null where not told."
    )

    @classmethod
    def of(cls, hour: TelemetryHour) -> "MachineHour":
        """`hour` as the API shows it."""
        return cls(
            starts_at=hour.hour,
            device=hour.device,
            samples=hour.samples,
            utilisation_percent=round(hour.utilisation_percent, 3),
            utilisation_percent_max=hour.utilisation_percent_max,
            memory_used_bytes=BigInt(hour.memory_used_bytes),
            memory_used_bytes_max=BigInt(hour.memory_used_bytes_max),
            temperature_c_max=hour.temperature_c_max,
            power_w=hour.power_w,
            disk_free_bytes_min=_big(hour.disk_free_bytes_min),
            ecc_uncorrected_total=_big(hour.ecc_uncorrected_total),
        )


def _gpus(newest: Telemetry) -> list[GpuTelemetry]:
    return [
        GpuTelemetry(
            uuid=sample.uuid,
            utilisation_percent=sample.utilisation_percent,
            memory_used_bytes=_big(sample.memory_used_bytes),
            temperature_c=sample.temperature_c,
            power_w=sample.power_w,
            ecc_uncorrected_total=_big(sample.ecc_uncorrected_total),
        )
        for sample in newest.gpus
    ]


def _big(value: int | None) -> BigInt | None:
    return None if value is None else BigInt(value)
