"""Link messages about a machine: how it is doing, and what it can do. Part of `raymart_core.wire.link`'s conversation."""

from typing import Literal

import msgspec

TELEMETRY_S = 10.0
"""Seconds between two `Telemetry`."""


class GpuSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One GPU at one moment; None is what the card or its driver does not tell."""

    uuid: str
    utilisation_percent: float | None = None
    memory_used_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    ecc_uncorrected_total: int | None = None
    """Since the driver was loaded."""


class Telemetry(msgspec.Struct, frozen=True, tag_field="m", tag="telemetry", omit_defaults=True):
    """How the machine is doing, every `TELEMETRY_S`."""

    clock_ms: int
    cpu_percent: float
    """Over all cores, 0 to 100."""
    memory_used_bytes: int
    disk_free_bytes: int
    gpus: tuple[GpuSample, ...] = ()


BENCHMARK_DATA_BYTES = 32 * 1024
"""Payload of each `BenchmarkData` but the last."""

BenchmarkCheckName = Literal["ping", "network", "ready", "matrix", "open", "memory", "disk"]
"""`ping`: answer at once. `network`: send `size` bytes as `BenchmarkData`, then answer. `ready`: load what the other
checks need. `matrix`: multiply matrices of `size` rows for `budget_s` (`raymart_core.wire.products`). `open`: show the
norms of the product `product` of the `matrix` order of the same seed. `memory`: move `size` bytes again and again for
`budget_s`. `disk`: write and read a file of `size` bytes."""


class BenchmarkOrder(msgspec.Struct, frozen=True, tag_field="m", tag="benchmark_order", omit_defaults=True):
    """One check of a benchmark, to be done now. One order at a time; the node gets no requests meanwhile."""

    order: str
    """Repeated in the answer."""
    check: str
    """A `BenchmarkCheckName`; an agent that does not know it answers with a problem."""
    timeout_s: float
    """The answer must be there by then."""
    device: str = ""
    """UUID of the GPU or of its slice; empty for the machine itself."""
    seed: bytes = b""
    """Of the numbers that are computed with, fresh each time, so that no answer can be prepared."""
    size: int = 0
    budget_s: float = 0.0
    """How long the measurement itself should take."""
    product: int = 0


class BenchmarkData(msgspec.Struct, frozen=True, tag_field="m", tag="benchmark_data"):
    """A part of what a `network` order asks for: bytes that do not compress."""

    order: str
    payload: bytes


class BenchmarkResult(msgspec.Struct, frozen=True, tag_field="m", tag="benchmark_result", omit_defaults=True):
    """Answer to a `BenchmarkOrder`."""

    order: str
    amount: float = 0.0
    """What was done: products, or bytes moved or written."""
    seconds: float = 0.0
    """How long that took by the node's clock. The marketplace looks at its own too."""
    digests: bytes = b""
    """Of `matrix`: `NORMS_DIGEST_BYTES` for each product, in their order."""
    norms: bytes = b""
    """Of `open`: the norms of the product's rows, u32 little endian each."""
    found: dict[str, str | int | float] = {}
    """What else was found, such as the name that CUDA gives the device."""
    problem: str = ""
    """Why there is no measurement; empty when there is one."""
