"""Where the ink of a picture ends: a small reader of PNG with 8-bit RGBA, for checks of margins."""

import struct
import zlib

WHITE = b"\xff\xff\xff"


def ink_columns(png: bytes) -> tuple[float, float]:
    """The first and the last column with ink, as parts of the width."""
    width, height = struct.unpack(">II", png[16:24])
    assert png[24:26] == b"\x08\x06", "8-bit RGBA"
    inked = {
        column
        for row in _rows(png, width, height)
        for column in range(width)
        if row[4 * column : 4 * column + 3] != WHITE
    }
    return min(inked) / width, max(inked) / width


def _rows(png: bytes, width: int, height: int) -> list[bytes]:
    """Source: PNG specification, 9.2: each row is a difference to its neighbours, by its filter."""
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    raw, rows, stride = zlib.decompress(data), [], 4 * width
    above = bytes(stride)
    for index in range(height):
        start = index * (stride + 1)
        above = _unfiltered(raw[start], raw[start + 1 : start + 1 + stride], above)
        rows.append(above)
    return rows


def _unfiltered(kind: int, line: bytes, above: bytes) -> bytes:
    row = bytearray(line)
    for i in range(len(row)):
        left, up = (row[i - 4] if i >= 4 else 0), above[i]
        corner = above[i - 4] if i >= 4 else 0
        row[i] = (row[i] + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
    return bytes(row)


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda near: abs(guess - near))
