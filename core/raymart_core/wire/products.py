"""The products of a benchmark: what a machine must multiply, and how anybody can check a few rows of it.

Of a seed follow two matrices A and B of `size` x `size` entries in {-1, 0, 1}, and for each product k a vector of signs
s_k. Product k is C_k = (A * s_k) B: column j of A times s_k[j]. No C_k follows from the others, so each must be computed.
All entries are whole numbers of at most `size`; every sum that occurs is exact in float32, and in float16 for the sizes
used (|C| stays far below 2,048), so the result does not depend on the order of additions or on the hardware.

A machine tells the norm (sum of absolute values) of each row of each C_k: a number that no shortcut gives, because the
absolute value is not linear. It first sends a digest of the norms of each product, and only then learns which products
it must open; whoever checks computes some rows anew (`size` squared additions each) and compares.
"""

import hashlib
import sys
from collections.abc import Sequence
from operator import sub

SIZE_MAX = 8_192
"""Rows of the largest matrices: an opened product fits into one frame of the link."""
PRODUCTS_MAX = 2_048
"""Products in one measurement: their digests fit into one frame of the link."""
NORMS_DIGEST_BYTES = 16

_ENTRIES = bytes(value % 3 for value in range(256))
"""From a random byte to an entry plus one. 0 comes with 86 of 256, which is even enough."""


def left_row(seed: bytes, index: int, size: int) -> bytes:
    """Row `index` of A, one byte an entry, each plus one (0, 1 or 2)."""
    return _random(seed, b"A", index, size).translate(_ENTRIES)


def right_row(seed: bytes, index: int, size: int) -> bytes:
    """Row `index` of B, likewise."""
    return _random(seed, b"B", index, size).translate(_ENTRIES)


def signs(seed: bytes, product: int, size: int) -> bytes:
    """s_k of product k, one byte an entry: its lowest bit is 1 for +1 and 0 for -1."""
    return _random(seed, b"s", product, size)


def norms_digest(norms: bytes) -> bytes:
    """What a machine commits itself to: of the norms of one product's rows, u32 little endian each."""
    return hashlib.sha256(norms).digest()[:NORMS_DIGEST_BYTES]


def flops(size: int, products: float) -> float:
    """Floating point operations of `products` products, counted as is usual: two for each multiply-add."""
    return 2.0 * size**3 * products


def row_norms(seed: bytes, size: int, rows: Sequence[tuple[int, int]]) -> list[int]:
    """The norm of each (product, row), computed here. About 0.6 s for 12 rows of size 8,192, 10 ms for size 1,024.

    B is made row by row and kept by nobody. A row of C is a signed sum of rows of B, and a row of B is held as one whole
    number with a lane of 16 bits for each entry, so that an addition adds all lanes: entries of 0 to 2, at most 2 * size
    in a lane, do not overflow into the next.
    """
    assert 0 < size <= SIZE_MAX
    factors = [_factors(seed, product, row, size) for product, row in rows]
    sums = [[0, 0] for _ in rows]
    lanes = bytearray(2 * size)
    for index in range(size):
        lanes[::2] = right_row(seed, index, size)
        number = int.from_bytes(lanes, "little")
        for factor, total in zip(factors, sums, strict=True):
            if value := factor[index]:
                total[value > 0] += number
    # Each entry of B is one too large: what was added once too often for each positive factor, and taken for each
    # negative one, is the sum of the factors.
    return [_norm(total[1], total[0], sum(factor), size) for factor, total in zip(factors, sums, strict=True)]


def _factors(seed: bytes, product: int, row: int, size: int) -> list[int]:
    """Row `row` of A * s_k."""
    entries, flips = left_row(seed, row, size), signs(seed, product, size)
    return [(entry - 1) * (1 if flip & 1 else -1) for entry, flip in zip(entries, flips, strict=True)]


def _norm(positive: int, negative: int, surplus: int, size: int) -> int:
    lanes = (_lanes(positive, size), _lanes(negative, size))
    return sum(abs(value - surplus) for value in map(sub, *lanes))


def _lanes(number: int, size: int) -> memoryview:
    # In the byte order of this machine: both operands have their lanes in the same order, and that is all that matters.
    return memoryview(number.to_bytes(2 * size, sys.byteorder)).cast("H")


def _random(seed: bytes, kind: bytes, index: int, size: int) -> bytes:
    return hashlib.shake_128(kind + index.to_bytes(4, "big") + seed).digest(size)
