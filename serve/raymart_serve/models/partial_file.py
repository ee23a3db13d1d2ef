"""A file that arrives in pieces, out of order and over several lives of a process.

Beside the data lies a journal, one byte for each piece that has arrived. Neither is flushed to the disk: a machine
that loses power may have noted a piece that it does not have, which the digest of the whole file then shows.
"""

import os
import threading
from pathlib import Path

PIECE_BYTES = 8 * 1024 * 1024
"""Asked for at once, and lost at most by an interruption. Changing it makes journals of older pieces worthless."""

_HERE = b"\x01"


class PartialFile:
    """`size` bytes at `path`, some of them here already. Safe to use from several threads."""

    def __init__(self, path: Path, *, size: int, piece_bytes: int = PIECE_BYTES) -> None:
        assert size >= 0
        assert piece_bytes > 0
        self.path = path
        self.size = size
        self.piece_bytes = piece_bytes
        self._journal_path = path.with_name(f"{path.name}.pieces")
        self._changed = threading.Condition()
        self._frontier = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._data = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._journal = os.open(self._journal_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pieces = self._resume()
        self._advance()

    @property
    def piece_count(self) -> int:
        """Pieces of the whole file; none for an empty one."""
        return len(self._pieces)

    @property
    def bytes_here(self) -> int:
        """Bytes that have arrived and are noted."""
        return sum(self.piece(index)[1] for index, here in enumerate(self._pieces) if here)

    def missing(self) -> list[int]:
        """Pieces that have not arrived, in order."""
        return [index for index, here in enumerate(self._pieces) if not here]

    def piece(self, index: int) -> tuple[int, int]:
        """Offset and length of a piece, in bytes."""
        offset = index * self.piece_bytes
        return offset, min(self.piece_bytes, self.size - offset)

    def rest(self, index: int) -> tuple[int, int]:
        """Offset and length of what a piece lacks: all of it, or what comes after the frontier."""
        offset, length = self.piece(index)
        with self._changed:
            begin = min(max(offset, self._frontier), offset + length)
        return begin, offset + length - begin

    def write(self, offset: int, data: memoryview) -> None:
        """Put `data` at `offset`; it outlives us only once its piece is noted. Raises: OSError, as for a full disk.

        One thread at a time for each piece.
        """
        # What lies before the frontier has been hashed: other bytes in its place would be kept unseen.
        assert offset >= self._frontier
        begin = offset
        while data:
            written = os.pwrite(self._data, data, offset)
            data = data[written:]
            offset += written
        with self._changed:
            if begin == self._frontier:
                self._frontier = offset
                self._advance()
                self._changed.notify_all()

    def note(self, index: int) -> None:
        """All bytes of the piece have been written."""
        os.pwrite(self._journal, _HERE, index)
        with self._changed:
            self._pieces[index] = 1
            self._advance()
            self._changed.notify_all()

    def read(self, offset: int, into: memoryview) -> int:
        """Read what has arrived at `offset`; the number of bytes read."""
        return os.preadv(self._data, [into], offset)

    def wait_beyond(self, offset: int, *, timeout_s: float) -> int:
        """Bytes that are here without a gap from the start, once they are more than `offset` or time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._frontier > offset, timeout=timeout_s)
            return self._frontier

    def forget(self) -> None:
        """Nothing has arrived: what was here is wrong."""
        with self._changed:
            os.ftruncate(self._journal, 0)
            self._pieces = bytearray(self.piece_count)
            self._frontier = 0

    def finish(self, target: Path) -> None:
        """Move the complete file to `target`, readable by all and writable by none."""
        os.fchmod(self._data, 0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)
        self._journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete data and journal."""
        self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the descriptors; what has arrived stays for the next life. Safe to call twice."""
        for descriptor in (self._data, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._journal = -1

    def _resume(self) -> bytearray:
        count = -(-self.size // self.piece_bytes)
        noted = os.pread(self._journal, count + 1, 0)
        found_bytes = os.fstat(self._data).st_size
        if found_bytes != self.size or len(noted) > count:
            os.ftruncate(self._journal, 0)
            if found_bytes > 0:
                # Not for a new file: ext4 writes a file that was ever cut to nothing out to the disk at its close.
                os.ftruncate(self._data, 0)
            os.ftruncate(self._data, self.size)
            noted = b""
        return bytearray(noted.ljust(count, b"\0"))

    def _advance(self) -> None:
        """Move the frontier over the pieces that are noted."""
        while self._frontier < self.size and self._pieces[index := self._frontier // self.piece_bytes]:
            self._frontier = sum(self.piece(index))
