"""GPU models we know by their data sheets: a machine that claims one must have its memory, its size and its speed.

Names are what NVML gives; a model that is not listed is measured all the same, against rules for any GPU. Figures are
NVIDIA's: multiprocessors and compute capability of the product as sold, dense float16 tensor throughput with float32
accumulation (half of the figure "with sparsity"), and peak memory bandwidth. Sources: the data sheets of V100, T4, A10,
A30, A40, A100, L4, L40, L40S, H100, H200 and B200, and the white papers of the Ampere (GA102), Ada and Blackwell
(GeForce) architectures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MEMORY_SHARES = (0.90, 1.03)
"""Of the data sheet's memory, what NVML may report: error correction and the driver take a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGpu:
    """One model."""

    name: str
    """As NVML gives it."""
    memory_gib: int
    multiprocessors: int
    compute_capability: str
    tensor_tflops: float
    """Dense, float16 with float32 accumulation."""
    bandwidth_gb_s: float
    """Peak, in 10^9 bytes a second."""


def known_gpu(name: str) -> KnownGpu | None:
    """The model that NVML calls `name`; None for one that is not listed. Older drivers leave the maker out."""
    return _BY_NAME.get(_plain(name))


def known_gpus() -> Iterator[KnownGpu]:
    """All of them, by name."""
    return iter(_MODELS)


def _plain(name: str) -> str:
    return name.casefold().removeprefix("nvidia ").strip()


def _model(  # noqa: PLR0917  # a table, read by its columns
    name: str, memory_gib: int, multiprocessors: int, capability: str, tflops: float, gb_s: float
) -> KnownGpu:
    return KnownGpu(
        name=name,
        memory_gib=memory_gib,
        multiprocessors=multiprocessors,
        compute_capability=capability,
        tensor_tflops=tflops,
        bandwidth_gb_s=gb_s,
    )


_MODELS = (
    _model("NVIDIA A10", 24, 72, "8.6", 125.0, 600.0),
    _model("NVIDIA A100 80GB PCIe", 80, 108, "8.0", 312.0, 1_935.0),
    _model("NVIDIA A100-PCIE-40GB", 40, 108, "8.0", 312.0, 1_555.0),
    _model("NVIDIA A100-SXM4-40GB", 40, 108, "8.0", 312.0, 1_555.0),
    _model("NVIDIA A100-SXM4-80GB", 80, 108, "8.0", 312.0, 2_039.0),
    _model("NVIDIA A10G", 24, 80, "8.6", 70.0, 600.0),
    _model("NVIDIA A30", 24, 56, "8.0", 165.0, 933.0),
    _model("NVIDIA A40", 48, 84, "8.6", 149.7, 696.0),
    _model("NVIDIA B200", 180, 148, "10.0", 2_250.0, 7_700.0),
    _model("NVIDIA GeForce RTX 3080", 10, 68, "8.6", 59.5, 760.0),
    _model("NVIDIA GeForce RTX 3090", 24, 82, "8.6", 71.0, 936.0),
    _model("NVIDIA GeForce RTX 3090 Ti", 24, 84, "8.6", 80.0, 1_008.0),
    _model("NVIDIA GeForce RTX 4080", 16, 76, "8.9", 97.5, 717.0),
    _model("NVIDIA GeForce RTX 4090", 24, 128, "8.9", 165.2, 1_008.0),
    _model("NVIDIA GeForce RTX 5080", 16, 84, "12.0", 112.6, 960.0),
    _model("NVIDIA GeForce RTX 5090", 32, 170, "12.0", 209.5, 1_792.0),
    _model("NVIDIA H100 80GB HBM3", 80, 132, "9.0", 989.4, 3_350.0),
    _model("NVIDIA H100 NVL", 94, 132, "9.0", 835.5, 3_938.0),
    _model("NVIDIA H100 PCIe", 80, 114, "9.0", 756.0, 2_039.0),
    _model("NVIDIA H200", 141, 132, "9.0", 989.4, 4_800.0),
    _model("NVIDIA H200 NVL", 141, 132, "9.0", 835.5, 4_800.0),
    _model("NVIDIA L4", 24, 58, "8.9", 121.0, 300.0),
    _model("NVIDIA L40", 48, 142, "8.9", 181.0, 864.0),
    _model("NVIDIA L40S", 48, 142, "8.9", 362.0, 864.0),
    _model("NVIDIA RTX 6000 Ada Generation", 48, 142, "8.9", 364.2, 960.0),
    _model("NVIDIA RTX A5000", 24, 64, "8.6", 111.1, 768.0),
    _model("NVIDIA RTX A6000", 48, 84, "8.6", 154.8, 768.0),
    _model("Tesla T4", 16, 40, "7.5", 65.0, 300.0),
    _model("Tesla V100-PCIE-16GB", 16, 80, "7.0", 112.0, 900.0),
    _model("Tesla V100-PCIE-32GB", 32, 80, "7.0", 112.0, 900.0),
    _model("Tesla V100-SXM2-16GB", 16, 80, "7.0", 125.0, 900.0),
    _model("Tesla V100-SXM2-32GB", 32, 80, "7.0", 125.0, 900.0),
)
_BY_NAME: Mapping[str, KnownGpu] = {_plain(model.name): model for model in _MODELS}
