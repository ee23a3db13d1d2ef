"""Looks at this machine, and changes nothing."""

import importlib.metadata
import re
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from raymart_core.wire.link import Hardware
from raymart_providers.preflight import rules
from raymart_providers.preflight.check import Check

_BUS = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # looked at, not written to


def machine_checks(machine: Hardware, *, models: Path, ray_host: str, offered_gpus: str) -> Iterator[Check]:
    """What of this machine decides whether it can serve, and how well."""
    gib = machine.memory_bytes / rules.GIB
    yield Check(
        check="machine", result="ok", found=f"{machine.cpu_count} x {machine.cpu_model}, {gib:.1f} GiB"
    )
    yield rules.python_check((sys.version_info.major, sys.version_info.minor, sys.version_info.micro))
    yield rules.ray_check(installed=_installed("ray"), wanted=_wanted_ray())
    yield rules.gpu_check(machine.gpus, cards_seen=_cards_on_bus(), offered=offered_gpus)
    if machine.gpus:
        yield rules.driver_check(driver=machine.gpus[0].driver, cuda=machine.cuda)
    yield rules.amount_check(
        "memory",
        psutil.virtual_memory().available,
        of="of the memory",
        fail_below=rules.MEMORY_FAIL_BYTES,
        warn_below=rules.MEMORY_WARN_BYTES,
        fix="stop what else runs here",
    )
    yield rules.amount_check(
        "disk",
        shutil.disk_usage(_existing(models)).free,
        of=f"at {models}",
        fail_below=rules.DISK_FAIL_BYTES,
        warn_below=rules.DISK_WARN_BYTES,
        fix="free some, or set RAYMART_MODEL_CACHE to a larger disk",
    )
    if _SHARED_MEMORY.is_dir():
        yield rules.amount_check(
            "shared memory",
            shutil.disk_usage(_SHARED_MEMORY).free,
            of=f"at {_SHARED_MEMORY}",
            fail_below=rules.SHARED_MEMORY_FAIL_BYTES,
            warn_below=rules.SHARED_MEMORY_FAIL_BYTES,
            fix="give the container more (`--shm-size=1g`)",
        )
    yield rules.files_check(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield ports_check(ray_host)


def ports_check(host: str) -> Check:
    """Whether Ray can listen on `host`."""
    try:
        with socket.create_server((host, 0)):
            pass
    except OSError as error:
        return Check(
            check="ports",
            result="fail",
            found=f"nothing can listen on {host}: {error.strerror}",
            fix="give --ray-host an address of this machine (`ip address`)",
        )
    return Check(check="ports", result="ok", found=f"Ray can listen on {host}; nothing needs to reach in")


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wanted_ray() -> str:
    """The version that `raymart-serve` is pinned to."""
    for requirement in importlib.metadata.requires("raymart-serve") or ():
        if pinned := re.match(r"ray(?:\[[^]]*\])?==([0-9.]+)", requirement):
            return pinned.group(1)
    raise AssertionError("raymart-serve pins no ray")


def _cards_on_bus() -> int:
    """NVIDIA display controllers, whether a driver is there or not. Source: the kernel's sysfs-bus-pci."""
    found = 0
    for device in _BUS.glob("*") if _BUS.is_dir() else ():
        vendor, kind = _text(device / "vendor"), _text(device / "class")
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _existing(folder: Path) -> Path:
    """The folder, or the next one above it that is there already."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
