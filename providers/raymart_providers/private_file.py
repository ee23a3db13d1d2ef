"""Files that only their owner may read: node keys, tokens, identities."""

import os
import stat
from pathlib import Path

from raymart_providers.errors import UnsafeFile


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content` with mode 0600, in one step: a crash leaves the old file or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def read_private(path: Path) -> bytes:
    """The content of `path`. Raises: UnsafeFile when group or others may touch it; FileNotFoundError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise UnsafeFile(
                f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so others can read or change it; "
                f"run `chmod 600 {path}`, and enrol anew if it may have been read"
            )
        return file.read()
