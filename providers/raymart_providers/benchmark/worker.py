"""The process that measures: its parent writes orders to standard input and reads results from standard output.

A process of its own, because what measures (torch, numpy's threads) takes seconds to load and memory that is wanted
elsewhere, and because a driver that hangs must not hang the agent. Messages are MessagePack after their length (u32,
big endian). End of input ends it, whatever it is doing.

    CUDA_VISIBLE_DEVICES=GPU-... python -m raymart_providers.benchmark.worker FOLDER
"""

import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec

from raymart_core.wire.machine import BenchmarkOrder, BenchmarkResult
from raymart_core.wire.products import PRODUCTS_MAX, SIZE_MAX, norms_digest
from raymart_providers.benchmark.device import LENGTH, Device, DeviceUnusable
from raymart_providers.benchmark.disk import write_and_read

_MOVE_BYTES_MAX = 4 * 1024**3
_DISK_BYTES_MAX = 1024**3
_BUDGET_S_MAX = 30.0
_STEP_S = 0.05
"""Products are made in groups of about this long, so that the budget is not overdrawn by much."""


class Bench:
    """Carries out orders on one device, which is loaded by the first order that needs it."""

    def __init__(self, folder: Path, device_uuid: str) -> None:
        self._folder = folder
        self._device_uuid = device_uuid
        self._device: Device | None = None
        self._seed = b""
        self._made = 0

    def carry_out(self, order: BenchmarkOrder) -> BenchmarkResult:
        """The result, which tells why when there is no measurement."""
        try:
            return self._measure(order)
        except (DeviceUnusable, OSError, ImportError, MemoryError, RuntimeError) as error:
            # RuntimeError: how torch tells of a driver's fault or of too little memory.
            return BenchmarkResult(order=order.order, problem=f"{type(error).__name__}: {error}"[:500])

    def _measure(self, order: BenchmarkOrder) -> BenchmarkResult:
        budget_s = min(order.budget_s, _BUDGET_S_MAX)
        match order.check:
            case "ready":
                self._seed = b""
                return self._prepare(order)
            case "matrix":
                return self._multiply(order, budget_s)
            case "open":
                return self._open(order)
            case "memory":
                size = min(max(order.size, 1), _MOVE_BYTES_MAX)
                moved, seconds = self._loaded().move(size, budget_s)
                return BenchmarkResult(order=order.order, amount=moved, seconds=seconds)
            case "disk":
                size = min(order.size, _DISK_BYTES_MAX)
                written, seconds, found = write_and_read(self._folder, size)
                return BenchmarkResult(order=order.order, amount=written, seconds=seconds, found=dict(found))
            case _:
                raise DeviceUnusable(f"this agent knows no check {order.check[:50]!r}; update it")

    def _prepare(self, order: BenchmarkOrder) -> BenchmarkResult:
        if not 0 < order.size <= SIZE_MAX:
            raise DeviceUnusable(f"matrices of {order.size} rows; 1 to {SIZE_MAX} are multiplied")
        device = self._loaded()
        device.prepare(order.seed, order.size)
        self._seed, self._made = order.seed, 0
        return BenchmarkResult(order=order.order, found=dict(device.found()))

    def _multiply(self, order: BenchmarkOrder, budget_s: float) -> BenchmarkResult:
        """As many products as fit into the budget. The seed's matrices are there already: `ready` made them."""
        if order.seed != self._seed or self._made:
            raise DeviceUnusable("`matrix` follows a `ready` of the same seed, once")
        device, seconds, group = self._loaded(), 0.0, 1
        while seconds < budget_s and self._made < PRODUCTS_MAX:
            group = min(group, PRODUCTS_MAX - self._made)
            took_s = device.multiply(group)
            seconds, self._made = seconds + took_s, self._made + group
            group = max(1, int(group * _STEP_S / max(took_s, 1e-6)))
        digests = b"".join(norms_digest(device.norms(product)) for product in range(self._made))
        return BenchmarkResult(order=order.order, amount=self._made, seconds=seconds, digests=digests)

    def _open(self, order: BenchmarkOrder) -> BenchmarkResult:
        if order.seed != self._seed or not 0 <= order.product < self._made:
            raise DeviceUnusable(f"product {order.product} was not made; {self._made} were")
        return BenchmarkResult(order=order.order, norms=self._loaded().norms(order.product))

    def _loaded(self) -> Device:
        if self._device is None:
            self._device = load_device(self._device_uuid)
        return self._device


def load_device(device_uuid: str) -> Device:
    """The GPU that CUDA_VISIBLE_DEVICES names, or the processors. Raises: DeviceUnusable, ImportError without torch."""
    # Imported here, by the process that wraps them: loading takes a second for numpy and many for torch.
    if device_uuid:
        from raymart_providers.benchmark.torch_device import TorchDevice  # noqa: PLC0415

        return TorchDevice()
    from raymart_providers.benchmark.cpu_device import CpuDevice  # noqa: PLC0415

    return CpuDevice()


def main() -> None:
    """Serve the parent until it closes standard input."""
    answers = _take_standard_output()
    orders: queue.Queue[BenchmarkOrder] = queue.Queue(maxsize=4)
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    bench = Bench(Path(sys.argv[1]), os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    while True:
        result = msgspec.msgpack.encode(bench.carry_out(orders.get()))
        answers.write(LENGTH.pack(len(result)) + result)
        answers.flush()


def _take_standard_output() -> IO[bytes]:
    """The descriptor for results. What libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _read_orders(orders: "queue.Queue[BenchmarkOrder]") -> None:
    pipe = sys.stdin.buffer
    while len(head := pipe.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        orders.put(msgspec.msgpack.decode(pipe.read(length), type=BenchmarkOrder))
    # Not sys.exit: the main thread may be inside a driver's call that never returns.
    os._exit(0)


if __name__ == "__main__":
    main()
