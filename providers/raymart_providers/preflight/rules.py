"""What is enough. Pure: a value in, a check out."""

from collections.abc import Sequence
from typing import Literal

from raymart_core.wire.link import Gpu
from raymart_providers.preflight.check import Check

GIB = 1024**3
MIB = 1024**2

PYTHON_MIN, PYTHON_BELOW = (3, 11), (3, 13)
CUDA_MAJOR_MIN = 13
"""What the engines' torch is built for (`serve/pyproject.toml`); a driver of an older CUDA cannot run it."""
MEMORY_FAIL_BYTES = 1 * GIB
"""Ray's own processes on a machine take about half of this, an agent and the smallest replica the rest."""
MEMORY_WARN_BYTES = 4 * GIB
DISK_FAIL_BYTES = 2 * GIB
"""The model cache leaves 1 GiB of the disk to others; less than another for models is none."""
DISK_WARN_BYTES = 20 * GIB
"""A quantized model of 8 billion parameters takes 5 to 9 GB, and a rollout needs two revisions."""
SHARED_MEMORY_FAIL_BYTES = 128 * MIB
"""Ray's object store is there, 80 MB of ours."""
OPEN_FILES_WARN = 4096
"""Ray's processes and a replica's connections together; many systems start with 1,024."""
SKEW_WARN_S = 5.0
ROUND_TRIP_WARN_MS = 250.0
"""Two of them are in the time to a customer's first token."""
BANDWIDTH_WARN_MBIT_S = 10.0
"""Tokens need a hundredth of it; pictures and models need more."""


def python_check(version: tuple[int, int, int]) -> Check:
    """The interpreter."""
    found = ".".join(map(str, version))
    if PYTHON_MIN <= version[:2] < PYTHON_BELOW:
        return Check(check="python", result="ok", found=found)
    return Check(
        check="python", result="fail", found=found, fix="install Python 3.11 or 3.12 and run it with that"
    )


def ray_check(*, installed: str | None, wanted: str) -> Check:
    """Ray: members of one cluster must have the same."""
    if installed == wanted:
        return Check(check="ray", result="ok", found=installed)
    return Check(
        check="ray",
        result="fail",
        found=f"{installed or 'not installed'}; this release works with {wanted}",
        fix=f"install ray[serve]=={wanted} into the environment of raymart-provider",
    )


def gpu_check(gpus: Sequence[Gpu], *, cards_seen: int, offered: str) -> Check:
    """GPUs that NVML shows, against NVIDIA cards on the bus (`cards_seen`)."""
    if gpus:
        models = ", ".join(f"{gpu.model} {gpu.memory_bytes / GIB:.0f} GiB" for gpu in gpus)
        return Check(check="gpu", result="ok", found=models)
    if offered == "none":
        return Check(check="gpu", result="ok", found="none is offered (RAYMART_GPUS=none)")
    if cards_seen:
        return Check(
            check="gpu",
            result="fail",
            found=f"{cards_seen} NVIDIA card(s) on the bus, and NVML shows none that RAYMART_GPUS={offered} offers",
            fix="install NVIDIA's driver until `nvidia-smi` lists them, or set RAYMART_GPUS=none to sell the CPU",
        )
    return Check(
        check="gpu",
        result="warn",
        found="NVML finds no GPU; only CPU engines can run",
        fix="if there is one, install NVIDIA's driver until `nvidia-smi` lists it",
    )


def driver_check(*, driver: str, cuda: str) -> Check:
    """The driver and the newest CUDA that it can run."""
    major = cuda.partition(".")[0]
    found = f"driver {driver}, CUDA {cuda or 'unknown'}"
    if major.isdecimal() and int(major) >= CUDA_MAJOR_MIN:
        return Check(check="driver", result="ok", found=found)
    return Check(
        check="driver",
        result="warn",
        found=f"{found}; the engines for GPUs are built for CUDA {CUDA_MAJOR_MIN}",
        fix=f"install a driver that `nvidia-smi` shows with CUDA {CUDA_MAJOR_MIN}.0 or newer",
    )


def amount_check(name: str, free_bytes: int, *, of: str, fail_below: int, warn_below: int, fix: str) -> Check:
    """Something that there must be enough of."""
    result: Literal["ok", "warn", "fail"] = "ok"
    if free_bytes < fail_below:
        result = "fail"
    elif free_bytes < warn_below:
        result = "warn"
    limit = fail_below if result == "fail" else warn_below
    found = f"{free_bytes / GIB:.1f} GiB free {of}"
    if result == "ok":
        return Check(check=name, result=result, found=found)
    return Check(check=name, result=result, found=f"{found}; {limit / GIB:.2g} GiB are needed", fix=fix)


def files_check(limit: int) -> Check:
    """Open files of one process."""
    if limit >= OPEN_FILES_WARN:
        return Check(check="open files", result="ok", found=f"{limit:,}")
    return Check(
        check="open files",
        result="warn",
        found=f"{limit:,}; {OPEN_FILES_WARN:,} are better",
        fix=f"run `ulimit -n {OPEN_FILES_WARN}` first, or install the service, which has more",
    )


def clock_check(skew_s: float) -> Check:
    """This machine's clock minus the marketplace's."""
    if abs(skew_s) <= SKEW_WARN_S:
        return Check(check="clock", result="ok", found=f"within {SKEW_WARN_S:g} s of the marketplace's")
    return Check(
        check="clock",
        result="warn",
        found=f"{skew_s:+.0f} s off the marketplace's; the link works, but logs will not line up",
        fix="turn on time synchronisation (`timedatectl set-ntp true`)",
    )


def round_trip_check(round_trip_ms: float) -> Check:
    """How far the marketplace is."""
    found = f"{round_trip_ms:.0f} ms there and back"
    if round_trip_ms <= ROUND_TRIP_WARN_MS:
        return Check(check="round trip", result="ok", found=found)
    return Check(
        check="round trip",
        result="warn",
        found=f"{found}; customers wait for it at each first token",
        fix="use a wired connection, or a marketplace that is nearer",
    )


def bandwidth_check(mbit_s: float | None, *, size_bytes: int) -> Check:
    """From the marketplace to here, as one small file tells: at least this much. None: it could not be measured."""
    if mbit_s is None:
        return Check(
            check="bandwidth",
            result="warn",
            found="could not be measured",
            fix="none; the benchmark measures it",
        )
    found = f"at least {mbit_s:.0f} Mbit/s (one file of {size_bytes / 1000:,.0f} kB)"
    if mbit_s >= BANDWIDTH_WARN_MBIT_S:
        return Check(check="bandwidth", result="ok", found=found)
    return Check(
        check="bandwidth",
        result="warn",
        found=f"{found}; below {BANDWIDTH_WARN_MBIT_S:g} models take long to fetch",
        fix="see what else uses the connection",
    )
