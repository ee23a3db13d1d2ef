"""`libnvidia-ml.so.1` as `nvml_stand_in.c` plays it: the driver's library is NVIDIA's, and its path through pynvml ours."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

SOURCE = Path(__file__).with_name("nvml_stand_in.c")


def built_library(folder: Path) -> Path:
    """The folder with the library, for LD_LIBRARY_PATH; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc): NVML cannot be played")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", target, SOURCE], check=True)
    return folder


def asked(library: Path, code: str, *, broken: str = "") -> Any:
    """What `code` puts into `said`, in a process that finds the library where the driver's would be."""
    program = f"import msgspec\n{code}\nprint(msgspec.json.encode(said).decode())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LD_LIBRARY_PATH": str(library), "NVML_STAND_IN": broken},
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout.splitlines()[-1])
