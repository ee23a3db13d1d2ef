"""The header of a safetensors file, checked before any library maps or allocates what it promises.

Source: https://github.com/huggingface/safetensors#format. A file is eight bytes (little-endian length of the header),
the header as JSON, then the tensors' bytes without gaps and in no other order than the header's offsets.
"""

from math import prod
from pathlib import Path
from typing import Annotated

import msgspec

from raymart_serve.engines.protocol import EngineFailed

HEADER_BYTES_MAX = 16 * 1024 * 1024
"""Forty thousand tensors fit; the largest models have a few thousand."""
TENSORS_MAX = 65_536
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of the header."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]
    """First byte and the one after the last, counted from the end of the header."""


# A typed decoder never nests deeper than its types, however deep the document does.
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw], strict=True).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str], strict=True).decode
_decode_entry = msgspec.json.Decoder(TensorEntry, strict=True).decode


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors that the file at `path` holds, by name. Blocking.

    Raises: EngineFailed for a header over `HEADER_BYTES_MAX`, malformed, or one that does not describe every byte of
    the file exactly once.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_BYTES_MAX, size - 8):
            limit = f"at most {HEADER_BYTES_MAX} bytes are read"
            raise EngineFailed(
                f"{path.name!r} promises a header of {length} bytes in a file of {size}; {limit}"
            )
        head = file.read(length)
    try:
        entries = _entries(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"the header of {path.name!r} cannot be read: {error}") from error
    _check_bytes(entries, size - 8 - length, path.name)
    return entries


def _entries(head: bytes) -> dict[str, TensorEntry]:
    raw = _decode(head)
    metadata = raw.pop("__metadata__", None)
    if metadata is not None:
        _decode_metadata(metadata)
    if len(raw) > TENSORS_MAX:
        raise msgspec.ValidationError(f"{len(raw)} tensors, at most {TENSORS_MAX} are taken")
    return {name: _decode_entry(entry) for name, entry in raw.items()}


def _check_bytes(entries: dict[str, TensorEntry], data_bytes: int, file_name: str) -> None:
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        bits = _BITS.get(entry.dtype)
        if bits is None:
            raise EngineFailed(
                f"tensor {name[:80]!r} of {file_name!r} has the unknown type {entry.dtype[:20]!r}"
            )
        if begin != at or (end - begin) * 8 != prod(entry.shape) * bits:
            raise EngineFailed(
                f"tensor {name[:80]!r} of {file_name!r} claims bytes {begin} to {end}; its shape and its place say otherwise"
            )
        at = end
    if at != data_bytes:
        raise EngineFailed(f"{file_name!r} has {data_bytes} bytes of tensors, its header describes {at}")
