"""The matrices of a seed as numpy arrays; see `raymart_core.wire.products`."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from raymart_core.wire.products import PRODUCTS_MAX, left_row, right_row, signs

Array: TypeAlias = Any
"""numpy has no types here."""


def left(seed: bytes, size: int) -> Array:
    """A: [size, size] int8 of -1, 0 and 1."""
    return _rows(left_row, seed, size)


def right(seed: bytes, size: int) -> Array:
    """B, likewise."""
    return _rows(right_row, seed, size)


def sign_rows(seed: bytes, size: int) -> Array:
    """s_k of every product there may be: [PRODUCTS_MAX, size] int8 of -1 and 1."""
    rows = [np.frombuffer(signs(seed, product, size), np.uint8) for product in range(PRODUCTS_MAX)]
    return ((np.stack(rows) & 1).astype(np.int8) * 2) - 1


def norm_bytes(norms: Array) -> bytes:
    """Norms as they go over the link: u32 little endian."""
    packed: bytes = norms.astype("<u4").tobytes()
    return packed


def _rows(row: Callable[[bytes, int, int], bytes], seed: bytes, size: int) -> Array:
    rows = [np.frombuffer(row(seed, index, size), np.int8) for index in range(size)]
    return np.stack(rows) - 1
