"""What a device can be asked by a benchmark: products of matrices, and moving memory."""

import struct
from collections.abc import Mapping
from typing import Protocol

LENGTH = struct.Struct("!I")
"""Goes before each message between the agent and the process that measures."""
DEVICE_MEMORY_SHARE = 0.5
"""Of a GPU's free memory, the most that moving memory takes: somebody else's process may be there too."""


class DeviceUnusable(Exception):
    """The device cannot be measured; the message is for its owner."""


class Device(Protocol):
    """The machine's processors, or one GPU."""

    def found(self) -> Mapping[str, str | int | float]:
        """What the device says of itself."""

    def prepare(self, seed: bytes, size: int) -> None:
        """Make the matrices of `seed` (`raymart_core.wire.products`) and whatever a first product needs."""

    def multiply(self, products: int) -> float:
        """Make the next `products` products and their norms; the seconds that took."""

    def norms(self, product: int) -> bytes:
        """Norms of the rows of a product that was made, u32 little endian each."""

    def move(self, size: int, budget_s: float) -> tuple[float, float]:
        """Copy memory, `size` bytes at a time, for about `budget_s`: bytes read and written, and seconds."""
