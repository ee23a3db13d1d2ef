"""What this machine has: GPUs by NVML where there are any, else CPU and memory alone."""

import hashlib
import platform
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import psutil
import structlog

from raymart_core.wire.link import Hardware
from raymart_providers.nvml import cuda_version, gpus

log = structlog.get_logger()

__all__ = ["gpus", "hardware"]

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_CPU_FILE = Path("/proc/cpuinfo")


def hardware(*, machine_id: str | None = None, folder: Path | None = None, offered: str = "all") -> Hardware:
    """The machine's inventory. `machine_id` stands for another machine (several nodes on one host, for trials).

    `folder` is where models are to be kept; `offered` says which GPUs are for sale, see `nvml.gpus`.
    """
    found = gpus(offered=offered)
    return Hardware(
        hostname=socket.gethostname(),
        cpu_model=_cpu_model(),
        cpu_count=psutil.cpu_count(logical=True) or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=found,
        machine_id=_hashed(machine_id or _machine_identity()),
        os=_system(),
        kernel=platform.release(),
        cuda=cuda_version() if found else "",
        disk_bytes=shutil.disk_usage(_existing(folder or Path.home())).total,
    )


def _existing(folder: Path) -> Path:
    """The folder, or the next one above it that is there already."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}".strip()


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
