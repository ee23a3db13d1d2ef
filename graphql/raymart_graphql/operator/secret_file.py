"""Files that hold secrets: readable by their owner only, and whole or not there."""

import os
import tempfile
from pathlib import Path


def write_secret(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0600, at once: a reader sees the old file or the new one, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
