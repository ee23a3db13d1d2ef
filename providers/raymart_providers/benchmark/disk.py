"""How fast the file system of a folder takes and gives back a file."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_BLOCK_BYTES = 1024 * 1024


def write_and_read(folder: Path, size: int) -> tuple[float, float, Mapping[str, str | int | float]]:
    """Bytes written and made durable, the seconds that took, and what was found beside.

    Writes one file without a name in `folder`, gone with the process. Raises: OSError when there is no room for it.
    """
    block = secrets.token_bytes(_BLOCK_BYTES)
    blocks = max(1, size // _BLOCK_BYTES)
    free_bytes = shutil.disk_usage(folder).free
    with tempfile.TemporaryFile(dir=folder) as file:
        began_at = time.perf_counter()
        for _ in range(blocks):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        write_s = time.perf_counter() - began_at
        if hasattr(os, "posix_fadvise"):
            # Else it would be read from the memory that it was just written from.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        began_at = time.perf_counter()
        while file.read(_BLOCK_BYTES):
            pass
        read_s = time.perf_counter() - began_at
    written = blocks * _BLOCK_BYTES
    return float(written), write_s, {"read_s": read_s, "free_bytes": free_bytes}
