"""The agent's hold on the process that measures: started for a device, killed when it hangs or is no longer needed."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from raymart_core.wire.machine import BenchmarkOrder, BenchmarkResult
from raymart_providers.benchmark.device import LENGTH
from raymart_providers.own_group import end_group

log = structlog.get_logger()

WORKER_COMMAND = (sys.executable, "-m", "raymart_providers.benchmark.worker")
_RESULT_BYTES_MAX = 1024 * 1024


class WorkerProcess:
    """One worker at a time, for one device. Used by one task."""

    def __init__(self, folder: Path, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._folder = folder
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._device = ""

    @property
    def pid(self) -> int | None:
        """Of the worker; None when there is none."""
        return self._process.pid if self._process is not None else None

    async def carry_out(self, order: BenchmarkOrder) -> BenchmarkResult:
        """The worker's result, or one that tells why there is none. A worker that fails is killed."""
        try:
            async with asyncio.timeout(order.timeout_s):
                return await self._ask(order)
        except TimeoutError:
            problem = f"the measurement did not end within {order.timeout_s:g} s"
        except (OSError, RuntimeError, EOFError, msgspec.MsgspecError) as error:
            # uvloop says by a RuntimeError that a pipe is closed; asyncio.IncompleteReadError is an EOFError.
            problem = f"the measuring process is gone ({type(error).__name__})"
        except asyncio.CancelledError:
            await self.close()
            raise
        await self.close()
        return BenchmarkResult(order=order.order, problem=problem)

    async def close(self) -> None:
        """End the worker and what it started."""
        process, self._process = self._process, None
        if process is not None:
            await end_group(process)

    async def _ask(self, order: BenchmarkOrder) -> BenchmarkResult:
        if self._process is None or self._process.returncode is not None or order.device != self._device:
            await self.close()
            await self._start(order.device)
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        message = msgspec.msgpack.encode(order)
        process.stdin.write(LENGTH.pack(len(message)) + message)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        if length > _RESULT_BYTES_MAX:
            raise EOFError
        result: BenchmarkResult = msgspec.msgpack.decode(
            await process.stdout.readexactly(length), type=BenchmarkResult
        )
        return result

    async def _start(self, device: str) -> None:
        # One device is all that the worker sees; a slice of a partitioned GPU can be used in no other way.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._device = device
        log.info("benchmark.worker_started", pid=self._process.pid, device=device or "cpu")
