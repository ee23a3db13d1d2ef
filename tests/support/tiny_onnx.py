"""ONNX files of a few nodes, written by hand: tests need no `onnx` package, and can write what it would refuse.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (field numbers).
"""

import struct
from collections.abc import Sequence

TYPES = {
    "float32": 1,
    "uint8": 2,
    "int32": 6,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}
IR_VERSION = 10
OPSET = 18
_ATTRIBUTE_INT, _ATTRIBUTE_GRAPH = 2, 5


def model(
    nodes: Sequence[bytes],
    *,
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    tensors: Sequence[bytes] = (),
) -> bytes:
    whole = graph(nodes, inputs=inputs, outputs=outputs, tensors=tensors)
    return _int(1, IR_VERSION) + _bytes(7, whole) + _bytes(8, _bytes(1, b"") + _int(2, OPSET))


def graph(
    nodes: Sequence[bytes],
    *,
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    tensors: Sequence[bytes] = (),
) -> bytes:
    return b"".join(
        (
            *(_bytes(1, node_) for node_ in nodes),
            _bytes(2, b"g"),
            *(_bytes(5, tensor_) for tensor_ in tensors),
            *(_bytes(11, port_) for port_ in inputs),
            *(_bytes(12, port_) for port_ in outputs),
        )
    )


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | bytes) -> bytes:
    """An attribute is a number or a graph."""
    return b"".join(
        (
            *(_bytes(1, name.encode()) for name in inputs),
            *(_bytes(2, name.encode()) for name in outputs),
            _bytes(4, op.encode()),
            *(_bytes(5, _attribute(name, value)) for name, value in attributes.items()),
        )
    )


def port(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    """An input or output; a size that is a name fits any."""
    dims = b"".join(
        _bytes(1, _int(1, size) if isinstance(size, int) else _bytes(2, size.encode())) for size in shape
    )
    kind = _bytes(1, _int(1, TYPES[dtype]) + _bytes(2, dims))
    return _bytes(1, name.encode()) + _bytes(2, kind)


def tensor(name: str, dtype: str, shape: Sequence[int], data: bytes) -> bytes:
    return b"".join(_int(1, size) for size in shape) + (
        _int(2, TYPES[dtype]) + _bytes(8, name.encode()) + _bytes(9, data)
    )


def external_tensor(name: str, shape: Sequence[int], location: str) -> bytes:
    """float32 numbers that lie in another file."""
    entry = _bytes(1, b"location") + _bytes(2, location.encode())
    return b"".join(_int(1, size) for size in shape) + (
        _int(2, TYPES["float32"]) + _bytes(8, name.encode()) + _bytes(13, entry) + _int(14, 1)
    )


def floats(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def lookup(
    table: Sequence[Sequence[float]], *, output: str = "last_hidden_state", inputs: Sequence[bytes] = ()
) -> bytes:
    """A transformer without attention: each token's vector is its row of `table`."""
    width = len(table[0])
    rows = tensor(
        "table", "float32", (len(table), width), floats([number for row in table for number in row])
    )
    return model(
        [node("Gather", ["table", "input_ids"], [output])],
        inputs=[port("input_ids", "int64", ("batch", "length")), *inputs],
        outputs=[port(output, "float32", ("batch", "length", width))],
        tensors=[rows],
    )


def _attribute(name: str, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _bytes(1, name.encode()) + _int(3, value) + _int(20, _ATTRIBUTE_INT)
    return _bytes(1, name.encode()) + _bytes(6, value) + _int(20, _ATTRIBUTE_GRAPH)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (2**64 - 1))


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
