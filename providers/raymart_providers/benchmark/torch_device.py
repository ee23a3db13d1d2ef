"""One GPU, or one slice of it, measured by torch. The only module of this package that imports it."""

import time
from collections.abc import Mapping

import torch

from raymart_providers.benchmark.device import DEVICE_MEMORY_SHARE, DeviceUnusable
from raymart_providers.benchmark.matrices import left, norm_bytes, right, sign_rows


class TorchDevice:
    """The device that CUDA_VISIBLE_DEVICES leaves, products in float16. Implements device.Device.

    `device` names another one, for tests: "cpu".
    """

    def __init__(self, device: str = "cuda") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceUnusable(
                f"torch {torch.__version__} finds no CUDA device; install the build of torch for this driver"
            )
        self._device = torch.device(device)
        # Half precision is what inference runs in, and every sum here is a whole number that it holds exactly.
        self._left = torch.empty(0, dtype=torch.float16, device=self._device)
        self._right = torch.empty_like(self._left)
        self._signs = torch.empty_like(self._left)
        self._norms = torch.empty(0, dtype=torch.float32, device=self._device)
        self._made = 0

    def found(self) -> Mapping[str, str | int | float]:
        """What CUDA says of the device, which the marketplace compares with what NVML said."""
        versions: dict[str, str | int | float] = {
            "torch": torch.__version__,
            "cuda": torch.version.cuda or "",
        }
        if self._device.type != "cuda":
            return versions
        card = torch.cuda.get_device_properties(self._device)
        return versions | {
            "name": card.name,
            "memory_bytes": card.total_memory,
            "multiprocessors": card.multi_processor_count,
            "compute_capability": f"{card.major}.{card.minor}",
        }

    def prepare(self, seed: bytes, size: int) -> None:
        """Make the matrices on the device, and one product so that its library chooses its way before the clock runs."""
        factors = (left(seed, size), right(seed, size), sign_rows(seed, size))
        self._left, self._right, self._signs = (
            torch.from_numpy(factor).to(self._device, torch.float16) for factor in factors
        )
        self._norms = torch.empty((len(factors[2]), size), dtype=torch.float32, device=self._device)
        self._made = 0
        self._product(0)
        self._wait()

    def multiply(self, products: int) -> float:
        """The next products; the device is waited for at the end only."""
        began_at = time.perf_counter()
        for _ in range(products):
            self._product(self._made)
            self._made += 1
        self._wait()
        return time.perf_counter() - began_at

    def norms(self, product: int) -> bytes:
        """Of a product that was made."""
        return norm_bytes(self._norms[product].cpu().numpy())

    def move(self, size: int, budget_s: float) -> tuple[float, float]:
        """Copies within the device's memory; each byte is read once and written once."""
        size = min(size, self._movable_bytes())
        source = torch.ones(size, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        target.copy_(source)
        self._wait()
        moved, began_at = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began_at) < budget_s or not moved:
            target.copy_(source)
            self._wait()
            moved += 2 * size
        return float(moved), took_s

    def _product(self, number: int) -> None:
        made = torch.matmul(self._left * self._signs[number], self._right)
        # Summed in float32: a sum of thousands is more than float16 holds.
        torch.sum(made.abs_(), dim=1, dtype=torch.float32, out=self._norms[number])

    def _movable_bytes(self) -> int:
        if self._device.type != "cuda":
            return 2**24
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(2**24, int(free * DEVICE_MEMORY_SHARE) // 2)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
