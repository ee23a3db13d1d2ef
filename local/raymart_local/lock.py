"""One owner per data directory, by a lock that the kernel drops when its owner dies."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from raymart_local.errors import DataDirInUse


class DataDirLock:
    """An flock on `<data_dir>/lock`. A file left by a dead process is no lock: only the kernel's flock counts."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid into the file. Raises: DataDirInUse, naming the holder."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        # Close-on-exec (Python's default), so that no child keeps the lock of a dead parent.
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _pid_in(fd)
            os.close(fd)
            raise DataDirInUse(self._data_dir, pid=holder) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; a second call does nothing. The file stays: removing it would race with an opener."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _pid_in(fd: int) -> int | None:
    with contextlib.suppress(ValueError):
        return int(os.pread(fd, 32, 0))
    return None
