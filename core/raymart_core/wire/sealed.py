"""Sealed artifacts: a file encrypted in chunks, so that any part of it is read, and checked, by itself.

    header: "RMSEAL01" | plain bytes of a chunk (u32) | plain bytes of the file (u64), big endian
    chunk i: AES-256-GCM of plain bytes [i * chunk, (i + 1) * chunk), the nonce being i (u96), the header authenticated

A data key seals one file, so a chunk's number is used once with it. The header says how many chunks there are and each
chunk where it belongs: cut short, put in another order or mixed with another file, it does not open.

Source: NIST SP 800-38D; the construction is STREAM's (Hoang, Reyhanitabar, Rogaway, Vizár 2015) with the length in the
associated data in place of a last-chunk flag.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
CHUNK_BYTES = 1 << 20
"""Plain bytes of a chunk as we seal."""
CHUNK_BYTES_MAX = 1 << 24
"""Plain bytes of a chunk as we open: so much is held in memory."""
TAG_BYTES = 16
_MAGIC = b"RMSEAL01"
_HEADER = struct.Struct("!8sIQ")
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLayout:
    """Where plain bytes lie in a sealed file."""

    size_bytes: int
    """Of the plain file."""
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= CHUNK_BYTES_MAX or self.size_bytes < 0:
            raise ValueError(
                f"a file of {self.size_bytes} bytes in chunks of {self.chunk_bytes} cannot be sealed"
            )

    @property
    def header(self) -> bytes:
        """The first bytes of the sealed file."""
        return _HEADER.pack(_MAGIC, self.chunk_bytes, self.size_bytes)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.size_bytes // self.chunk_bytes)

    @property
    def stored_bytes(self) -> int:
        """Of the sealed file."""
        return HEADER_BYTES + self.size_bytes + self.chunks * TAG_BYTES

    def stored_range(self, start: int, end: int) -> tuple[int, int]:
        """Stored bytes that hold the plain bytes from `start` up to `end`: whole chunks, from that of `start` on."""
        assert 0 <= start < end <= self.size_bytes
        first, last = start // self.chunk_bytes, (end - 1) // self.chunk_bytes
        step = self.chunk_bytes + TAG_BYTES
        return HEADER_BYTES + first * step, min(HEADER_BYTES + (last + 1) * step, self.stored_bytes)

    def chunk_at(self, stored: int) -> int:
        """The number of the chunk that begins at this stored byte."""
        index, rest = divmod(stored - HEADER_BYTES, self.chunk_bytes + TAG_BYTES)
        assert rest == 0
        return index


def read_header(header: bytes) -> SealedLayout:
    """The layout of a sealed file, by its first `HEADER_BYTES` bytes. Raises: ValueError."""
    if len(header) != HEADER_BYTES or not header.startswith(_MAGIC):
        raise ValueError("not a sealed file")
    _, chunk_bytes, size_bytes = _HEADER.unpack(header)
    return SealedLayout(size_bytes=size_bytes, chunk_bytes=chunk_bytes)


class ArtifactKey:
    """Seals and opens chunks of one file with its data key."""

    def __init__(self, data_key: bytes, layout: SealedLayout) -> None:
        """`data_key`: 32 random bytes, of this file alone."""
        if len(data_key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(data_key)}")
        self._cipher = AESGCM(data_key)
        self._layout = layout

    def seal(self, index: int, plain: bytes) -> bytes:
        """Chunk `index`, sealed."""
        assert len(plain) == self._plain_bytes(index)
        return self._cipher.encrypt(_nonce(index), plain, self._layout.header)

    def open(self, index: int, sealed: bytes) -> bytes:
        """The plain bytes of chunk `index`. Raises: ValueError when it is not that chunk of this file, whole."""
        try:
            if not 0 <= index < self._layout.chunks or len(sealed) != self._plain_bytes(index) + TAG_BYTES:
                raise InvalidTag
            return self._cipher.decrypt(_nonce(index), sealed, self._layout.header)
        except InvalidTag:
            raise ValueError(f"chunk {index} is damaged, or not of this file") from None

    def open_all(self, stored: Iterable[bytes], *, first: int = 0) -> Iterator[bytes]:
        """Plain bytes of the chunks from `first` on, of stored bytes in pieces of any size (without the header).

        Ends with the last whole chunk of `stored`. Raises: ValueError for bytes that are not whole chunks.
        """
        index, waiting = first, bytearray()
        for piece in stored:
            waiting += piece
            while index < self._layout.chunks and len(waiting) >= self._plain_bytes(index) + TAG_BYTES:
                length = self._plain_bytes(index) + TAG_BYTES
                yield self.open(index, bytes(waiting[:length]))
                del waiting[:length]
                index += 1
        if waiting:
            raise ValueError(f"{len(waiting)} bytes after the last whole chunk")

    def _plain_bytes(self, index: int) -> int:
        return min(self._layout.chunk_bytes, self._layout.size_bytes - index * self._layout.chunk_bytes)


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")
