"""How this machine is doing, told to the marketplace every `TELEMETRY_S` while the link is up."""

import asyncio
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import structlog

from raymart_core.wire.link import Control, Welcome
from raymart_core.wire.machine import TELEMETRY_S, GpuSample, Telemetry
from raymart_providers import nvml
from raymart_providers.link.outbox import Outbox

log = structlog.get_logger()


class Sampler:
    """Looks at the machine. NVML stays open between samples: opening it takes longer than all of its answers."""

    def __init__(self, *, folder: Path, gpu_uuids: frozenset[str]) -> None:
        """`folder` lies in the file system that models are kept in."""
        self._folder = folder
        self._gpu_uuids = gpu_uuids
        self._stack = ExitStack()
        self._has_driver: bool | None = None
        psutil.cpu_percent()  # The first call has nothing to compare with.

    def sample(self) -> Telemetry:
        """This moment. Blocks for milliseconds, and for as long as the driver likes."""
        memory = psutil.virtual_memory()
        return Telemetry(
            clock_ms=time.time_ns() // 1_000_000,
            cpu_percent=psutil.cpu_percent(),
            memory_used_bytes=memory.total - memory.available,
            disk_free_bytes=shutil.disk_usage(self._folder).free,
            gpus=self._gpus(),
        )

    def close(self) -> None:
        """Let go of NVML."""
        self._stack.close()

    def _gpus(self) -> tuple[GpuSample, ...]:
        if not self._gpu_uuids:
            return ()
        if self._has_driver is None:
            self._has_driver = self._stack.enter_context(nvml.driver())
        return nvml.samples(self._gpu_uuids) if self._has_driver else ()


class TelemetryReporter:
    """Samples in a thread and sends while a link is up. Implements duty.Duty."""

    def __init__(self, sampler: Sampler, *, every_s: float = TELEMETRY_S) -> None:
        self._sampler = sampler
        self._every_s = every_s
        self._outbox: Outbox | None = None
        self._linked = asyncio.Event()

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """A link is live; the next sample is due at once."""
        del welcome
        self._outbox = outbox
        self._linked.set()

    def down(self) -> None:
        """The link is gone; nothing is sampled for nobody."""
        self._outbox = None
        self._linked.clear()

    def take(self, message: Control) -> bool:
        """Nothing is asked of it."""
        del message
        return False

    def heartbeat(self) -> None:
        """It has its own time."""

    async def run(self) -> None:
        """Sample and send until cancelled."""
        try:
            while True:
                await self._linked.wait()
                try:
                    # A driver that hangs holds up telemetry and nothing else.
                    telemetry = await asyncio.to_thread(self._sampler.sample)
                except OSError as error:
                    log.warning("telemetry.failed", reason=str(error))
                else:
                    if self._outbox is not None:
                        self._outbox.control(telemetry)
                await asyncio.sleep(self._every_s)
        finally:
            self._sampler.close()
