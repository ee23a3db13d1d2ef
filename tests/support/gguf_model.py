"""A GGUF model of any size with random weights: the demo model's tokenizer and template, other dimensions.

Source: ggml/docs/gguf.md (layout).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_ALIGNMENT = 32
_F32, _F16 = 0, 1
_STRING, _ARRAY, _U32 = 8, 9, 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
HEAD = 64
"""Numbers in one attention head."""


def random_model(source: Path, target: Path, *, layers: int, hidden: int, feed_forward: int) -> Path:
    """Write a Llama of these dimensions, f16, with the metadata of `source`; `hidden` is a multiple of 128."""
    heads = hidden // HEAD
    changes = {
        "llama.block_count": layers, "llama.embedding_length": hidden, "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads, "llama.attention.head_count_kv": heads // 2,
        "llama.attention.key_length": HEAD, "llama.attention.value_length": HEAD,
        "llama.rope.dimension_count": HEAD, "general.file_type": 1,
    }  # fmt: skip
    pairs = dict(metadata(source.read_bytes()))
    pairs |= {name: struct.pack("<II", _U32, value) for name, value in changes.items()}
    vocabulary = struct.unpack("<I", pairs["llama.vocab_size"][4:8])[0]
    tensors = list(_tensors(layers, hidden, feed_forward, vocabulary))
    chance = np.random.default_rng(1)
    with target.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
        for name, value in pairs.items():
            file.write(_string(name) + value)
        offset = 0
        for name, shape in tensors:
            kind, size = (_F32, 4) if len(shape) == 1 else (_F16, 2)
            file.write(_string(name) + struct.pack("<I", len(shape)))
            file.write(struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset))
            offset += -(-size * int(np.prod(shape)) // _ALIGNMENT) * _ALIGNMENT
        for _, shape in tensors:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            if len(shape) == 1:
                file.write(np.ones(shape, np.float32).tobytes())
            else:
                file.write(
                    (chance.standard_normal(shape[::-1], np.float32) * 0.02).astype(np.float16).tobytes()
                )
    return target


def metadata(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names of a GGUF file's metadata, and their types and values as they are written."""
    pairs, at = struct.unpack_from("<Q", data, 16)[0], 24
    for _ in range(pairs):
        length = struct.unpack_from("<Q", data, at)[0]
        name, at = data[at + 8 : at + 8 + length].decode(), at + 8 + length
        end = _end(data, at + 4, struct.unpack_from("<I", data, at)[0])
        yield name, data[at:end]
        at = end


def _end(data: bytes, at: int, kind: int) -> int:
    """Where the value of type `kind` that begins at `at` ends."""
    if kind == _STRING:
        return at + 8 + int(struct.unpack_from("<Q", data, at)[0])
    if kind != _ARRAY:
        return at + _SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    for _ in range(count):
        at = _end(data, at, inner)
    return at


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _tensors(
    layers: int, hidden: int, feed_forward: int, vocabulary: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, the fastest dimension first."""
    yield "token_embd.weight", (hidden, vocabulary)
    for layer in range(layers):
        for name, shape in (
            ("attn_norm", (hidden,)), ("attn_q", (hidden, hidden)), ("attn_k", (hidden, hidden // 2)),
            ("attn_v", (hidden, hidden // 2)), ("attn_output", (hidden, hidden)), ("ffn_norm", (hidden,)),
            ("ffn_gate", (hidden, feed_forward)), ("ffn_up", (hidden, feed_forward)), ("ffn_down", (feed_forward, hidden)),
        ):  # fmt: skip
            yield f"blk.{layer}.{name}.weight", shape
    yield "output_norm.weight", (hidden,)
