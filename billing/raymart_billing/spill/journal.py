"""A journal: append-only files on this machine for records that PostgreSQL could not take.

Each process appends to a segment of its own and holds a lock (flock) on it while it lives; whoever can lock a segment
may drain it, so the files of a dead process are free at once. A frame is

    magic (4 bytes) | length (u32) | CRC-32 of the record (u32) | record

little-endian. `append` returns after fsync. A frame that a crash cut short was never acknowledged and is passed over;
anything else that is damaged is handed out as such, because it may have been acknowledged.
"""

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from raymart_core.errors import RaymartError
from raymart_core.ids import new_id

log = structlog.get_logger()

MAGIC = b"RmU\x01"
_HEADER = struct.Struct("<4sII")
SUFFIX = ".spill"
RECORD_BYTES_MAX = 1_000_000
"""A frame that claims more is damaged; a record is a kilobyte or two."""
SEGMENT_BYTES = 8_000_000
"""When a segment is closed and the next begun; it is read whole when it is drained."""


class JournalFull(RaymartError):
    """The files have reached the size that they may have."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is at one place of a segment."""

    content: bytes
    is_sound: bool
    """Whether the CRC is right; otherwise `content` is the damaged bytes as they are."""


class Journal:
    """This process's segments below `directory` (made 0700, files 0600). Blocking: call it from a thread, one at a time."""

    def __init__(self, directory: Path, *, bytes_max: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self._length = 0
        self._others_bytes = 0

    def append(self, records: Sequence[bytes]) -> None:
        """Write all of `records` behind each other and fsync once. On failure none of them counts.

        Raises: JournalFull; OSError, such as a full disk.
        """
        frames = b"".join(_framed(record) for record in records)
        if self._descriptor is None or self._length >= self._segment_bytes:
            self._begin_segment()
        assert self._descriptor is not None
        self._require_room(len(frames))
        try:
            _write_all(self._descriptor, frames)
            os.fsync(self._descriptor)
        except OSError:
            # After a failed write or fsync nobody knows what is on the disk: never append behind it.
            self._drop_tail()
            raise
        self._length += len(frames)

    def seal(self) -> None:
        """Close the segment at hand, so that it can be drained; the next `append` begins another."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # Its lock goes with it.
            self._descriptor = None
            self._length = 0

    def _begin_segment(self) -> None:
        self.seal()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._others_bytes = bytes_in(self.directory)
        name = new_id().hex
        fresh = self.directory / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # Locked before it has its name: nobody drains and deletes a file that we are about to write to.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fresh.rename(self.directory / f"{name}{SUFFIX}")
        _sync_directory(self.directory)
        self._descriptor = descriptor

    def _require_room(self, length: int) -> None:
        if self._others_bytes + self._length + length <= self._bytes_max:
            return
        self._others_bytes = (
            bytes_in(self.directory) - self._length
        )  # Others may have been drained meanwhile.
        held = self._others_bytes + self._length
        if held + length > self._bytes_max:
            raise JournalFull(f"{self.directory} holds {held} of at most {self._bytes_max} bytes")

    def _drop_tail(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._length)
        self.seal()


def bytes_in(directory: Path) -> int:
    """Bytes of all segments below `directory`."""
    total = 0
    for path in segments(directory):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def segments(directory: Path) -> Sequence[Path]:
    """The segments below `directory`, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else []


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock `path` for draining; false when a living process writes to it or another one drains it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # It may have been drained and deleted between the opening and the lock.
        yield os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def read_segment(path: Path) -> Iterator[Frame]:
    """The frames of a segment in their order. A torn tail is left out, other damage is handed out."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        record = _record_at(content, at)
        if record is not None:
            yield Frame(record, is_sound=True)
            at += _HEADER.size + len(record)
            continue
        following = _next_sound(content, at + 1)
        damaged = content[at : following if following is not None else len(content)]
        if following is None and _is_torn(damaged):
            log.warning("spill.torn_tail", path=str(path), bytes=len(damaged))
            return
        yield Frame(damaged, is_sound=False)
        at += len(damaged)


def _framed(record: bytes) -> bytes:
    assert len(record) <= RECORD_BYTES_MAX, f"a record of {len(record)} bytes"
    return _HEADER.pack(MAGIC, len(record), zlib.crc32(record)) + record


def _record_at(content: bytes, at: int) -> bytes | None:
    """The record of the sound frame that begins at `at`; None when there is none."""
    if len(content) - at < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack_from(content, at)
    if magic != MAGIC or length > RECORD_BYTES_MAX:
        return None
    record = content[at + _HEADER.size : at + _HEADER.size + length]
    return record if len(record) == length and zlib.crc32(record) == checksum else None


def _next_sound(content: bytes, start: int) -> int | None:
    at = content.find(MAGIC, start)
    while at >= 0:
        if _record_at(content, at) is not None:
            return at
        at = content.find(MAGIC, at + 1)
    return None


def _is_torn(tail: bytes) -> bool:
    """Whether a file's last bytes are a frame that was being written: its beginning and not all of it."""
    if len(tail) < _HEADER.size:
        return MAGIC.startswith(tail[: len(MAGIC)])
    magic, length, _ = _HEADER.unpack_from(tail)
    return bool(magic == MAGIC and length <= RECORD_BYTES_MAX and len(tail) < _HEADER.size + length)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
