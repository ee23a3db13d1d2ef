"""The machine's processors, measured by numpy: products in float32, and copies of its main memory."""

import time
from collections.abc import Mapping

import numpy as np

from raymart_providers.benchmark.device import DeviceUnusable
from raymart_providers.benchmark.matrices import Array, left, norm_bytes, right, sign_rows


class CpuDevice:
    """All cores, as numpy's library uses them. Implements device.Device."""

    def __init__(self) -> None:
        self._left: Array | None = None
        self._right: Array | None = None
        self._signs: Array | None = None
        self._norms: list[bytes] = []

    def found(self) -> Mapping[str, str | int | float]:
        """Which numpy measures."""
        return {"numpy": np.__version__}

    def prepare(self, seed: bytes, size: int) -> None:
        """Make the matrices, and one product to wake the threads."""
        self._left = left(seed, size).astype(np.float32)
        self._right = right(seed, size).astype(np.float32)
        self._signs = sign_rows(seed, size)
        self._norms = []
        self._left @ self._right

    def multiply(self, products: int) -> float:
        """The next products, in float32, in which each sum is exact."""
        if self._left is None or self._right is None or self._signs is None:
            raise DeviceUnusable("the matrices were not prepared")
        began_at = time.perf_counter()
        for _ in range(products):
            made = (self._left * self._signs[len(self._norms)]) @ self._right
            self._norms.append(norm_bytes(np.abs(made).sum(axis=1)))
        return time.perf_counter() - began_at

    def norms(self, product: int) -> bytes:
        """Of a product that was made."""
        return self._norms[product]

    def move(self, size: int, budget_s: float) -> tuple[float, float]:
        """Copies between two arrays; each byte is read once and written once."""
        source: Array = np.ones(size, np.uint8)
        target: Array = np.empty_like(source)
        np.copyto(target, source)  # The first touch makes the pages.
        moved, began_at = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began_at) < budget_s or not moved:
            np.copyto(target, source)
            moved += 2 * size
        return float(moved), took_s
