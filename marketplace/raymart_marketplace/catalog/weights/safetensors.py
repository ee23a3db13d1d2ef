"""Headers of safetensors files, read without believing them. Source: the format's README; safetensors 0.8 `tensor.rs`.

length of the header (u64, little endian) | header, JSON | data
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated

import msgspec

from raymart_core.errors import InvalidRequest

HEADER_BYTES_MAX = 16 << 20
"""The format allows 100 MB; the largest models' shards need less than one."""
TENSORS_MAX = 100_000
DIMENSIONS_MAX = 16
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64,
}  # fmt: skip

Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of the header."""

    dtype: str
    shape: Annotated[tuple[Whole, ...], msgspec.Meta(max_length=DIMENSIONS_MAX)]
    data_offsets: tuple[Whole, Whole]


def read_safetensors_header(path: Path) -> Mapping[str, Tensor]:
    """The file's tensors by name, each within the data, and together all of it. Raises: InvalidRequest.

    No more of the file is read than its header, and of that no more than `HEADER_BYTES_MAX`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(HEADER_BYTES_MAX, size - 8):
            raise InvalidRequest(
                f"{path.name!r} is no safetensors file: a header of {length} bytes in a file of {size}, the limit is"
                f" {HEADER_BYTES_MAX}"
            )
        header = file.read(length)
    if not header.startswith(b"{"):
        raise InvalidRequest(f"{path.name!r} is no safetensors file: its header is no JSON object")
    try:
        parts = _parts(header)
        parts.pop("__metadata__", None)
        if len(parts) > TENSORS_MAX:
            raise InvalidRequest(f"{path.name!r} has {len(parts)} tensors; the limit is {TENSORS_MAX}")
        tensors = {name: _tensor(part) for name, part in parts.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the header of {path.name!r} cannot be read: {error}") from None
    _check(path.name, tensors, data_bytes=size - 8 - length)
    return tensors


def _check(name: str, tensors: Mapping[str, Tensor], *, data_bytes: int) -> None:
    """Raises: InvalidRequest when tensors overlap, leave gaps or end elsewhere than the data."""
    at = 0
    for tensor_name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        bits = _BITS.get(tensor.dtype)
        if bits is None:
            raise InvalidRequest(
                f"tensor {tensor_name[:80]!r} of {name!r} is {tensor.dtype[:20]!r}, which is no known number format"
            )
        if begin != at or prod(tensor.shape) * bits != (end - begin) * 8:
            raise InvalidRequest(
                f"tensor {tensor_name[:80]!r} of {name!r} says shape {list(tensor.shape)} at bytes {begin} to {end}, which"
                f" does not go on from {at} or does not fit"
            )
        at = end
    if at != data_bytes:
        raise InvalidRequest(f"{name!r} has {data_bytes} bytes of data and tensors of {at}")


_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_tensor = msgspec.json.Decoder(Tensor).decode
