"""One `ray start --block`, kept running: started again with growing pauses, and what it leaves behind cleared away."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import psutil
import structlog

from raymart_providers.errors import ProviderError
from raymart_providers.link.backoff import Backoff
from raymart_providers.private_file import write_private
from raymart_providers.ray_process.command import MARK, RayCommand
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.ray_process.sweep import lives, sweep

log = structlog.get_logger()

READY_LINE = "Ray runtime started."
READY_TIMEOUT_S = 120.0
"""Ray gives a raylet 30 s, which a busy machine may not manage at the first try."""
STOP_GRACE_S = 15.0
_HELD_S = 60.0
"""A Ray that ran for this long and then ended is started again without the pause of the failures before."""
_POLL_S = 0.2

RayState = Literal["waiting", "starting", "running", "stopped"]


class RayFailed(ProviderError):
    """Ray did not start."""


class ProcessRecord(msgspec.Struct, frozen=True):
    """Which process runs, kept for an agent that takes over from a killed one."""

    pid: int
    created: float
    """Its start time, so that a number used again is not mistaken for it."""
    argv: tuple[str, ...]
    """Without `--dashboard-port`, which is another at each start."""


@dataclass(slots=True)
class RayStatus:
    """How Ray is doing, for `status`."""

    state: RayState = "waiting"
    pid: int | None = None
    starts: int = 0
    error: str = ""


class RayProcess:
    """Keeps the process of `make_command()` running until cancelled, then stops it and everything it started."""

    def __init__(
        self,
        make_command: Callable[[], RayCommand],
        *,
        home: RayHome,
        backoff: Backoff | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        gate: Callable[[], Awaitable[None]] | None = None,
        keeps_session: bool = False,
        adopts_since: float = 0.0,
    ) -> None:
        """`make_command` is asked right before each start, in a thread; `gate` before that, to raise a ProviderError.

        `keeps_session`: other nodes of this machine may use the session's files, or a head comes back to them.
        A Ray that an earlier agent left is taken over when it has started after `adopts_since` (Unix time).
        """
        self._gate = gate
        self._keeps_session = keeps_session
        self._adopts_since = adopts_since
        self.status = RayStatus()
        self._make_command = make_command
        self._home = home
        self._backoff = backoff or Backoff(first_s=1.0, longest_s=30.0)
        self._ready_timeout_s = ready_timeout_s
        self._pid: int | None = None
        self._ended: Callable[[], Awaitable[object]] = _at_once
        """Returns when the process `_pid` has ended; at once before there was one."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            if not await self._adopt():
                await self._try_to_start()
            while True:
                await self._watch()
                await asyncio.sleep(self._backoff.next_s())
                await self._try_to_start()
        finally:
            await asyncio.shield(asyncio.ensure_future(self._stop()))

    async def _try_to_start(self) -> None:
        self.status.state = "starting"
        self.status.starts += 1
        try:
            await self._start()
        except (ProviderError, OSError, psutil.Error) as error:
            self._failed(str(error))

    async def _watch(self) -> None:
        """Return when Ray has ended, or at once when it did not start; what it left is cleared away."""
        began_at = time.monotonic()
        if self.status.state == "running":
            await self._ended()
        if time.monotonic() - began_at > _HELD_S:
            self._backoff.reset()
        if self.status.state == "running":
            self._failed("Ray has ended")
        await self._clear()
        # What did not come up in time is killed by now, and this process has to take note of its end.
        await self._ended()

    def _failed(self, reason: str) -> None:
        log.warning("ray.failed", reason=reason)
        self.status.state, self.status.pid, self.status.error = "waiting", None, reason

    async def _start(self) -> None:
        """Start Ray and wait until it is up. Raises: ProviderError, OSError, psutil.Error."""
        await self._clear()
        if self._gate is not None:
            await self._gate()
        command = await asyncio.to_thread(self._prepared)
        with self._home.log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env=dict(command.environment),
                cwd=self._home.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C in the agent's terminal reaches the agent, which then ends Ray in order.
                start_new_session=True,
            )
        self._pid, self._ended = process.pid, process.wait
        self._note(process.pid, command)
        await self._wait_until_ready(process)
        log.info("ray.started", pid=process.pid, starts=self.status.starts)

    def _prepared(self) -> RayCommand:
        self._home.prepare()
        if not self._keeps_session:
            self._home.clear_session()
        if self._home.log.exists():
            self._home.log.replace(self._home.log.with_suffix(".log.1"))
        return self._make_command()

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        """Raises: RayFailed, after which the process may still run."""
        deadline = time.monotonic() + self._ready_timeout_s
        while True:
            text = await asyncio.to_thread(self._home.log.read_text, errors="replace")
            if READY_LINE in text:
                break
            if process.returncode is not None:
                raise RayFailed(f"Ray ended with status {process.returncode}: {_last_words(text)}")
            if time.monotonic() > deadline:
                raise RayFailed(f"Ray was not up after {self._ready_timeout_s:g} s; see {self._home.log}")
            await asyncio.sleep(_POLL_S)
        self.status.state, self.status.pid, self.status.error = "running", process.pid, ""

    def _note(self, pid: int, command: RayCommand) -> None:
        record = ProcessRecord(
            pid=pid, created=psutil.Process(pid).create_time(), argv=_lasting(command.argv)
        )
        write_private(self._home.record, msgspec.json.encode(record))

    async def _adopt(self) -> bool:
        """Take over the Ray that an agent before this one left running, when it is what this one would start."""
        process = await asyncio.to_thread(_left_running, self._home, self._make_command)
        if process is None or process.create_time() < self._adopts_since:
            return False
        log.info("ray.adopted", pid=process.pid)
        self.status.state, self.status.pid = "running", process.pid

        async def ended() -> None:
            while lives(process):  # noqa: ASYNC110
                await asyncio.sleep(1.0)  # It is no child of ours: there is nothing to await.

        self._pid, self._ended = process.pid, ended
        return True

    async def _stop(self) -> None:
        self.status.state = "stopped"
        if self._pid is not None and self._is_ours(self._pid):
            os.kill(self._pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._ended()
        await self._clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                await self._ended()
        log.info("ray.stopped")

    def _is_ours(self, pid: int) -> bool:
        try:
            return psutil.Process(pid).environ().get(MARK) == self._home.mark
        except psutil.Error:
            return False

    async def _clear(self) -> None:
        """Kill what a Ray of ours has left behind."""
        self._home.record.unlink(missing_ok=True)
        killed = await asyncio.to_thread(sweep, self._home.mark)
        if killed:
            log.info("ray.swept", processes=killed)


def _left_running(home: RayHome, make_command: Callable[[], RayCommand]) -> psutil.Process | None:
    try:
        record = msgspec.json.decode(home.record.read_bytes(), type=ProcessRecord)
        process = psutil.Process(record.pid)
        ours = process.create_time() == record.created and process.environ().get(MARK) == home.mark
    except (OSError, ValueError, psutil.Error):
        return None
    return process if ours and record.argv == _lasting(make_command().argv) and _is_up(home.log) else None


def _lasting(argv: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(argument for argument in argv if not argument.startswith("--dashboard-port="))


def _is_up(log_path: Path) -> bool:
    return READY_LINE in log_path.read_text(errors="replace")


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


async def _at_once() -> None:
    """The end of what never began."""
