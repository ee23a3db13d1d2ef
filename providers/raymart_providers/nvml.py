"""GPUs as NVIDIA's management library (NVML) reports them: what they are, and how they are doing.

Source: the NVML API reference. What a card or its driver does not support is left out of what is said of it, and a card
that fails to answer is left out of the list: the others are as good as before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pynvml
import structlog

from raymart_core.wire.link import Gpu, MigSlice
from raymart_core.wire.machine import GpuSample

log = structlog.get_logger()

Answer = TypeVar("Answer")
Handle = Any
"""pynvml has no types."""

_CORES_OF_MULTIPROCESSOR = {
    "6.0": 64, "6.1": 128, "7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128,
    "9.0": 128, "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip
"""FP32 cores per multiprocessor by compute capability: NVML counts cores only.
Source: CUDA C++ Programming Guide, "Compute Capabilities"."""
_ALL = "all"
_NONE = "none"


@contextmanager
def driver() -> Iterator[bool]:
    """NVML, open inside the block; False where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info("nvml.no_driver", reason=str(error))
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def gpus(*, offered: str = _ALL) -> tuple[Gpu, ...]:
    """The GPUs of this machine; none when there is no driver.

    `offered` is "all", "none", or the UUIDs of cards, separated by commas.
    """
    if offered == _NONE:
        return ()
    with driver() as there:
        version = _try(pynvml.nvmlSystemGetDriverVersion) if there else None
        if version is None:
            return ()
        found = [_gpu(handle, _text(version)) for handle in _handles()]
    chosen = {uuid.strip() for uuid in offered.split(",")}
    return tuple(gpu for gpu in found if gpu is not None and (offered == _ALL or gpu.uuid in chosen))


def cuda_version() -> str:
    """The highest CUDA version that the driver can run, such as "13.0"; empty without a driver."""
    with driver() as there:
        version = _try(pynvml.nvmlSystemGetCudaDriverVersion_v2) if there else None
    return "" if version is None else f"{version // 1000}.{version % 1000 // 10}"


def samples(uuids: frozenset[str]) -> tuple[GpuSample, ...]:
    """How these GPUs are doing now. To be called with NVML open (`driver`)."""
    found = []
    for handle in _handles():
        uuid = _try(lambda handle=handle: pynvml.nvmlDeviceGetUUID(handle))  # type: ignore[misc]  # bound at once
        if uuid is not None and _text(uuid) in uuids:
            found.append(_sample(handle, _text(uuid)))
    return tuple(found)


def _handles() -> Iterator[Handle]:
    for index in range(_try(pynvml.nvmlDeviceGetCount) or 0):
        handle = _try(lambda index=index: pynvml.nvmlDeviceGetHandleByIndex(index))  # type: ignore[misc]  # as above
        if handle is None:
            log.warning("nvml.gpu_failed", index=index)
        else:
            yield handle


def _gpu(handle: Handle, version: str) -> Gpu | None:
    try:
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
        model = _text(pynvml.nvmlDeviceGetName(handle))
        memory_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError as error:
        log.warning("nvml.gpu_failed", reason=str(error))
        return None
    major_minor = _try(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    capability = f"{major_minor[0]}.{major_minor[1]}" if major_minor is not None else ""
    ecc = _try(lambda: pynvml.nvmlDeviceGetEccMode(handle))
    return Gpu(
        uuid=uuid,
        model=model,
        memory_bytes=memory_bytes,
        driver=version,
        compute_capability=capability,
        multiprocessors=_multiprocessors(handle, capability),
        ecc=None if ecc is None else bool(ecc[0]),
        mig=_slices(handle),
    )


def _multiprocessors(handle: Handle, capability: str) -> int:
    cores = _try(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle))
    per_multiprocessor = _CORES_OF_MULTIPROCESSOR.get(capability)
    return cores // per_multiprocessor if cores is not None and per_multiprocessor is not None else 0


def _slices(handle: Handle) -> tuple[MigSlice, ...]:
    mode = _try(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return ()
    most = _try(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    found = (_slice(handle, index) for index in range(most))
    return tuple(each for each in found if each is not None)


def _slice(handle: Handle, index: int) -> MigSlice | None:
    """None where the card has fewer slices than it may."""
    try:
        part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        return MigSlice(
            uuid=_text(pynvml.nvmlDeviceGetUUID(part)),
            # "NVIDIA H200 MIG 1g.18gb"
            profile=_text(pynvml.nvmlDeviceGetName(part)).rpartition("MIG ")[2],
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(part).total),
        )
    except pynvml.NVMLError:
        return None


def _sample(handle: Handle, uuid: str) -> GpuSample:
    load = _try(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    memory = _try(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    milliwatts = _try(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return GpuSample(
        uuid=uuid,
        # A partitioned card tells no utilisation.
        utilisation_percent=float(load.gpu) if load is not None else None,
        memory_used_bytes=int(memory.used) if memory is not None else None,
        temperature_c=_try(
            lambda: float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        ),
        power_w=milliwatts / 1000 if milliwatts is not None else None,
        ecc_uncorrected_total=_try(
            lambda: int(
                pynvml.nvmlDeviceGetTotalEccErrors(
                    handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            )
        ),
    )


def _try(ask: Callable[[], Answer]) -> Answer | None:
    """The answer; None where the card or its driver has none."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        log.debug("nvml.no_answer", reason=str(error))
        return None


def _text(value: str | bytes) -> str:
    """NVML's strings are bytes in older drivers' bindings."""
    return value.decode() if isinstance(value, bytes) else value
