"""Checks of what the embedded stack needs on this machine, each with its result and how to repair it."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from raymart_local.errors import LocalError, PartMissing
from raymart_local.ports import is_free
from raymart_local.postgres_binaries import programs
from raymart_local.program import unprivileged_account
from raymart_local.redis import server_program
from raymart_local.settings import LocalSettings

MEMORY_BYTES_MIN = 3_000_000_000
DISK_BYTES_MIN = 2_000_000_000
FILES_MIN = 1_024
_IMPORT_TIMEOUT_S = 120
_GIGABYTE = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check."""

    check: str
    is_ok: bool
    result: str
    """What was found, with the value."""
    fix: str
    """What to do when it is not ok."""


def findings(settings: LocalSettings) -> Sequence[Finding]:
    """All checks, the quick ones first; importing Ray and the engine takes some seconds."""
    return [
        _python(),
        _memory(),
        _disk(settings.data_dir.absolute()),
        _open_files(),
        _port(settings.port),
        _data_dir(settings.data_dir.absolute()),
        _postgres(settings),
        _redis(settings),
        _solana(settings),
        _importable("Ray", "ray", "ray.serve"),
        _importable("engine", "xllamacpp"),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        check="Python",
        is_ok=(3, 11) <= sys.version_info[:2] < (3, 13),
        result=version,
        fix="install Python 3.11 or 3.12 and run `make install` again",
    )


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    return Finding(
        check="memory",
        is_ok=available >= MEMORY_BYTES_MIN,
        result=f"{available / _GIGABYTE:.1f} GB available",
        fix=f"the stack needs {MEMORY_BYTES_MIN / _GIGABYTE:.0f} GB; stop other programs",
    )


def _disk(data_dir: Path) -> Finding:
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        check="disk",
        is_ok=free >= DISK_BYTES_MIN,
        result=f"{free / _GIGABYTE:.1f} GB free at {existing}",
        fix=f"the stack needs {DISK_BYTES_MIN / _GIGABYTE:.0f} GB; free some, or set RAYMART_DATA_DIR",
    )


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(
        check="open files",
        is_ok=soft >= FILES_MIN,
        result=f"limit {soft}",
        fix=f"raise it: ulimit -n {FILES_MIN * 4}",
    )


def _port(port: int) -> Finding:
    free = is_free(port)
    return Finding(
        check="API port",
        is_ok=free,
        result=f"{port} is {'free' if free else 'taken'}",
        fix="stop what listens there, or choose another with RAYMART_PORT=<port>",
    )


def _data_dir(data_dir: Path) -> Finding:
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    return Finding(
        check="data directory",
        is_ok=os.access(existing, os.W_OK | os.X_OK),
        result=str(data_dir),
        fix=f"{existing} is not writable for you; set RAYMART_DATA_DIR",
    )


def _postgres(settings: LocalSettings) -> Finding:
    fix = "run `make install`, or set DATABASE_URL to a server of your own"
    if settings.database_url is not None:
        return Finding(check="Postgres", is_ok=True, result="DATABASE_URL is set", fix=fix)
    try:
        program = programs(unprivileged_account()) / "postgres"
        said = subprocess.run(  # noqa: S603 - the wheel's program
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (LocalError, OSError, subprocess.TimeoutExpired) as error:
        return Finding(check="Postgres", is_ok=False, result=str(error), fix=fix)
    return Finding(
        check="Postgres", is_ok=said.returncode == 0, result=(said.stdout or said.stderr).strip(), fix=fix
    )


def _redis(settings: LocalSettings) -> Finding:
    fix = "run `make install`, or set REDIS_URL and BROKER_URL to a server of your own"
    if settings.redis_url is not None and settings.broker_url is not None:
        return Finding(check="Redis", is_ok=True, result="REDIS_URL and BROKER_URL are set", fix=fix)
    try:
        return Finding(check="Redis", is_ok=True, result=str(server_program()), fix=fix)
    except PartMissing as error:
        return Finding(check="Redis", is_ok=False, result=str(error), fix=fix)


def _solana(settings: LocalSettings) -> Finding:
    if settings.solana_rpc_url:
        # Not shown: an address may hold a key.
        fix = "unset SOLANA_RPC_URL to run on a development chain"
        return Finding(check="Solana", is_ok=True, result="SOLANA_RPC_URL is set", fix=fix)
    return _importable("Solana", "solders.litesvm")


def _importable(check: str, *modules: str) -> Finding:
    """Import in a process of its own: such libraries may crash, and this process must not load them."""
    code = "; ".join(f"import {module}" for module in modules) + f"; print({modules[0]}.__file__)"
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
        is_ok, lines = done.returncode == 0, (done.stdout or done.stderr).strip().splitlines()
    except subprocess.TimeoutExpired:
        is_ok, lines = False, [f"not imported within {_IMPORT_TIMEOUT_S} s"]
    result = "imports" if is_ok else (lines or ["crashed"])[-1]
    return Finding(check=check, is_ok=is_ok, result=result, fix="run `make install`")
