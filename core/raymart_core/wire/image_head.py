"""What a picture's first bytes say of it, read without decoding a pixel.

A file of a few bytes can claim 16,000 x 16,000 pixels, and a decoder would believe it: Pillow's for WebP allocates two
canvases of the claimed size when a file is merely opened. So nothing is opened before this has read the claim.
Source: PNG (W3C) section 11.2.2; ITU T.81 annex B.2.2; RFC 9649 (WebP) sections 2.5 to 2.7.
"""

import struct
from dataclasses import dataclass

from raymart_core.wire.image import ImageFormat

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# Start of frame, in all its kinds: 0xC0 to 0xCF without those that define tables (DHT, JPG, DAC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers without a length."""
_MARKERS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Head:
    """The claim."""

    format: ImageFormat
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many."""
        return self.width * self.height


def read_head(data: bytes) -> Head | None:
    """The claim of a PNG, JPEG or WebP picture; None of anything else, or of one without pixels."""
    try:
        head = _read(data)
    except (struct.error, IndexError):
        return None  # It ends before it says.
    return head if head is not None and head.pixels else None


def _read(data: bytes) -> Head | None:
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        return Head("png", *struct.unpack_from(">II", data, 16))
    if data.startswith(_JPEG):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def _jpeg(data: bytes) -> Head | None:
    at = 2
    for _ in range(_MARKERS_MAX):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # Padding.
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Head("jpeg", width, height)
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp(data: bytes) -> Head | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Head("webp", width, height) if len(data) >= 30 else None
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Head("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return Head("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    return None
