"""What this machine has: GPUs by NVML where there are any, else CPU and memory alone."""

import hashlib
import platform
import socket
import subprocess
import uuid
from pathlib import Path

import psutil
import pynvml
import structlog

from raymart_core.wire.link import Gpu, Hardware

log = structlog.get_logger()

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_CPU_FILE = Path("/proc/cpuinfo")


def hardware(*, machine_id: str | None = None) -> Hardware:
    """The machine's inventory. `machine_id` stands for another machine (several nodes on one host, for trials)."""
    return Hardware(
        hostname=socket.gethostname(),
        cpu_model=_cpu_model(),
        cpu_count=psutil.cpu_count(logical=True) or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpus(),
        machine_id=_hashed(machine_id or _machine_identity()),
    )


def gpus() -> tuple[Gpu, ...]:
    """GPUs as NVML reports them; none when there is no driver. A GPU that fails to answer is left out."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info("inventory.no_gpu", reason=str(error))
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        found = [_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        log.warning("inventory.nvml_failed", reason=str(error))
        return ()
    finally:
        pynvml.nvmlShutdown()
    return tuple(gpu for gpu in found if gpu is not None)


def _gpu(index: int, driver: str) -> Gpu | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
            model=_text(pynvml.nvmlDeviceGetName(handle)),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            driver=driver,
        )
    except pynvml.NVMLError as error:
        log.warning("inventory.gpu_failed", index=index, reason=str(error))
        return None


def _text(value: str | bytes) -> str:
    """NVML's strings are bytes in older drivers' bindings."""
    return value.decode() if isinstance(value, bytes) else value


def _cpu_model() -> str:
    if _CPU_FILE.exists():
        for line in _CPU_FILE.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"model name", "Model"}:
                return value.strip()
    if platform.system() == "Darwin":
        return _output("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _machine_identity() -> str:
    """What tells this machine from others and stays: the system's own id, else the hardware address."""
    for path in _MACHINE_ID_FILES:
        if path.exists() and (content := path.read_text().strip()):
            return content
    if platform.system() == "Darwin":
        for line in _output("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice").splitlines():
            if "IOPlatformUUID" in line:
                return line.split('"')[3]
    return f"{uuid.getnode():012x}"


def _hashed(machine_identity: str) -> str:
    """A digest that tells machines apart without telling the machine's id (see machine-id(5), "confidential")."""
    return hashlib.sha256(b"raymart machine " + machine_identity.encode()).hexdigest()


def _output(*command: str) -> str:
    try:
        # Absolute paths of the system's own programs, no shell: S603 guards against input from elsewhere.
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        log.info("inventory.command_failed", command=command[0], reason=str(error))
        return ""
