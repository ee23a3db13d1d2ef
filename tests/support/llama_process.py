"""A replica of the bundled language model in a process of its own, to be killed."""

import asyncio
import json
import os
import signal
import sys
from types import TracebackType
from typing import Self

from support.scripted_replica import REVISION

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
START_TIMEOUT_S = 120.0


class LlamaProcess:
    """Use as a context manager; ready when entered."""

    def __init__(self, *, slots: int, step_delay_ms: float) -> None:
        """Each step waits `step_delay_ms`, so that an answer lasts long enough to be broken."""
        self._slots = slots
        self._step_delay_ms = step_delay_ms
        self.address = ""
        self.secret = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "raymart_serve.replica", "--source", "bundled:demo-llm.gguf"),
            *("--sha256", SHA256, "--revision", REVISION, "--model", "raymart/demo-chat"),
            *("--slots", str(self._slots), "--step-delay-ms", str(self._step_delay_ms)),
            *("--context-length", "512"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            ready = json.loads(await self._process.stdout.readline())
        self.address, self.secret = ready["address"], ready["secret"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """SIGKILL, unless it is dead."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
