"""Benchmarks for tests: little effort, and machines whose "GPU" is this machine's processors, honest or not."""

import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from raymart_core.wire.link import Gpu
from raymart_marketplace.supply.benchmarks import BenchmarkDesk, Effort
from raymart_providers.benchmark import BenchmarkDesk as AgentsDesk
from raymart_providers.benchmark import WorkerProcess
from support.link_market import LinkMarket, link_market

LITTLE = Effort(
    cpu_size=64,
    cpu_budget_s=0.02,
    gpu_size=64,
    gpu_budget_s=0.02,
    memory_budget_s=0.02,
    cpu_memory_bytes=2**20,
    gpu_memory_bytes=2**20,
    disk_bytes=2**20,
    network_bytes=256 * 1024,
    order_timeout_s=20.0,
    ready_timeout_s=20.0,
    allowance_s=10.0,
    machine_allowance_s=10.0,
)
"""The allowance is for a busy machine: what our clock says is tested with a clock of its own."""

H200 = Gpu(
    uuid="GPU-h200",
    model="NVIDIA H200",
    memory_bytes=143_771 * 2**20,
    driver="580.95.05",
    compute_capability="9.0",
    multiprocessors=132,
    ecc=True,
)
_PLAYED = """
import sys
from raymart_providers.benchmark import worker
from raymart_providers.benchmark.cpu_device import CpuDevice

class Played(CpuDevice):
    def found(self):
        return {found!r}

    def multiply(self, products):
        return super().multiply(products) * {slowness!r}

    def move(self, size, budget_s):
        moved, seconds = super().move(size, budget_s)
        return moved, seconds * {slowness!r}

worker.load_device = lambda device: Played() if device else CpuDevice()
worker.main()
"""


def played_gpu(gpu: Gpu, *, slowness: float = 1e-9) -> Sequence[str]:
    """Command of a worker whose GPU calls itself `gpu` and claims to have taken `slowness` times the true seconds."""
    found = {
        "name": gpu.model,
        "multiprocessors": gpu.multiprocessors,
        "memory_bytes": gpu.memory_bytes,
        "compute_capability": gpu.compute_capability,
    }
    return (sys.executable, "-c", _PLAYED.format(found=found, slowness=slowness))


def agents_desk(folder: Path, command: Sequence[str] | None = None) -> AgentsDesk:
    """The agent's side; `command` starts another worker than the real one."""
    folder.mkdir(parents=True, exist_ok=True)
    return AgentsDesk(WorkerProcess(folder, command) if command is not None else WorkerProcess(folder))


@contextlib.asynccontextmanager
async def measuring_market(sessions: Any, **settings: Any) -> AsyncIterator[tuple[LinkMarket, BenchmarkDesk]]:
    """A marketplace that measures its nodes with little effort."""
    desk = BenchmarkDesk(sessions, effort=LITTLE, poll_s=0.05, retry_s=(3600.0,))
    async with link_market(sessions, benchmarks=desk, **settings) as market:
        await desk.start()
        try:
            yield market, desk
        finally:
            await desk.stop()
