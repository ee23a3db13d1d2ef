"""Weights as files, whole and broken."""

import json
import struct
from collections.abc import Mapping


def safetensors(
    tensors: Mapping[str, tuple[str, list[int], int]] | None = None,
    *,
    header: bytes | None = None,
    data: bytes | None = None,
) -> bytes:
    """A file of `tensors`: name to number format, shape and bytes; or with a header of one's own."""
    at, entries = 0, {}
    for name, (dtype, shape, length) in (tensors or {"w": ("F32", [2, 2], 16)}).items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    written = json.dumps(entries).encode() if header is None else header
    return len(written).to_bytes(8, "little") + written + (bytes(at) if data is None else data)


def gguf(
    values: Mapping[str, object] | None = None,
    *,
    tensors: int = 1,
    entries: int | None = None,
    padding: int = 64,
) -> bytes:
    """A small GGUF file of version 3; `entries` is how many it says it has."""
    values = {"general.architecture": "llama", "llama.context_length": 512, "general.file_type": 7} | dict(
        values or {}
    )
    parts = [b"GGUF", struct.pack("<IQQ", 3, tensors, len(values) if entries is None else entries)]
    for name, value in values.items():
        parts.append(_text(name))
        if isinstance(value, bytes):
            parts.append(value)
        elif isinstance(value, str):
            parts += [struct.pack("<I", 8), _text(value)]
        else:
            parts.append(struct.pack("<II", 4, value))
    for number in range(tensors):
        parts += [_text(f"t{number}"), struct.pack("<IQIQ", 1, 8, 0, 0)]
    body = b"".join(parts)
    return body + bytes(-len(body) % 32) + bytes(padding)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
