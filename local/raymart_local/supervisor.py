"""Starts the parts of a stack, keeps them running, and stops every one of them."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import psutil

from raymart_local.errors import LocalError, PartFailed
from raymart_local.guarded import guarded
from raymart_local.leftovers import stop_all
from raymart_local.lock import DataDirLock
from raymart_local.logs import Console, PartLog, important
from raymart_local.part import Part
from raymart_local.stack_record import MARKER, StackRecord

RESTART_DELAY_S = 0.5
RESTART_DELAY_S_MAX = 10.0
RESTARTS_MAX = 8
STEADY_AFTER_S = 60.0
"""A part that ran this long has its restarts forgiven."""
READY_POLL_S = 0.1
LOG_POLL_S = 0.25
_LINES_SHOWN = 12


class Supervisor:
    """Runs `parts`; made by `supervised`, which owns the processes' end."""

    def __init__(
        self, parts: Sequence[Part], *, record: StackRecord, data_dir: Path, console: Console
    ) -> None:
        self._parts = {part.name: part for part in parts}
        for part in parts:
            assert set(part.needs) <= self._parts.keys(), f"{part.name} needs {part.needs}"
        self._record = record
        self._record_path = record_path(data_dir)
        self._console = console
        self._logs = {name: PartLog(data_dir / "logs" / f"{name}.log") for name in self._parts}
        self._ready = {name: asyncio.Event() for name in self._parts}
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def pids(self) -> Mapping[str, int]:
        """The parts that run now, by name."""
        return {name: process.pid for name, process in self._processes.items() if process.returncode is None}

    def kill(self, names: Collection[str]) -> int:
        """SIGKILL these parts and all below them at once, as the crash of a machine would; they are started again.

        Returns how many processes died.
        """
        victims: list[psutil.Process] = []
        for name in names:
            with contextlib.suppress(psutil.Error):
                part = psutil.Process(self.pids[name])
                victims += [part, *part.children(recursive=True)]
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()
        return len(victims)

    async def all_ready(self) -> None:
        """Wait until every part is ready."""
        for ready in self._ready.values():
            await ready.wait()

    def start(self, group: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        """Start every part as soon as what it needs is ready. A part that fails for good fails the group."""
        tasks = [group.create_task(self._keep(part), name=part.name) for part in self._parts.values()]
        return [*tasks, group.create_task(self._show_logs(), name="logs")]

    async def stop(self) -> None:
        """Stop all parts, each after the parts that need it."""
        self._show_new_lines()
        stopped = {name: asyncio.Event() for name in self._parts}

        async def stop_in_turn(part: Part) -> None:
            for other in self._parts.values():
                if part.name in other.needs:
                    await stopped[other.name].wait()
            await self._stop_part(part)
            stopped[part.name].set()

        async with asyncio.TaskGroup() as group:
            for part in self._parts.values():
                group.create_task(stop_in_turn(part))

    async def _keep(self, part: Part) -> None:
        for name in part.needs:
            await self._ready[name].wait()
        await self._start_first_time(part)
        self._ready[part.name].set()
        if part.kind == "task":
            return
        restarts = 0
        while True:
            process, since = self._processes[part.name], time.monotonic()
            status = await process.wait()
            if time.monotonic() - since > STEADY_AFTER_S:
                restarts = 0
            restarts += 1
            if part.if_it_dies == "end the stack" or restarts > RESTARTS_MAX:
                self._fail(part, f"died with {_described(status)}")
            delay_s = min(RESTART_DELAY_S * 2 ** (restarts - 1), RESTART_DELAY_S_MAX)
            self._console.warn(
                part.name, f"died with {_described(status)}; starting it again in {delay_s:g} s"
            )
            # What it leaves (a raylet's GCS, say) may hold the port or files that the next one needs.
            _kill_group(process)
            await asyncio.sleep(delay_s)
            await self._launch(part)

    async def _start_first_time(self, part: Part) -> None:
        started = time.monotonic()
        for tries_left in reversed(range(part.starts_max)):
            await self._launch(part)
            failure = await self._failure_before_ready(part)
            if failure is None:
                self._console.say(part.name, f"ready in {time.monotonic() - started:.1f} s")
                return
            if not tries_left:
                self._fail(part, failure)
            self._console.warn(part.name, f"{failure}; trying again")
            await self._stop_part(part)

    async def _failure_before_ready(self, part: Part) -> str | None:
        """Wait until the part is ready (None), or say why it will not be."""
        process = self._processes[part.name]
        try:
            async with asyncio.timeout(part.ready_timeout_s):
                if part.kind == "task":
                    status = await process.wait()
                    return None if status == 0 else f"failed with {_described(status)}"
                while process.returncode is None:
                    if self._log_says(part) and await part.is_ready():
                        return None
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError:
            return f"was not ready within {part.ready_timeout_s:g} s"
        return f"died before it was ready, with {_described(process.returncode)}"

    def _log_says(self, part: Part) -> bool:
        return part.ready_log_line is None or self._logs[part.name].says(part.ready_log_line)

    async def _launch(self, part: Part) -> None:
        program = await asyncio.to_thread(part.program)
        marked = program.with_environment({MARKER: self._record.stack_id})
        with self._logs[part.name].open() as output:
            process = await marked.spawn(output=output)
        self._processes[part.name] = process
        self._record = self._record.with_session(pid=process.pid)
        self._record.save(self._record_path)

    async def _stop_part(self, part: Part) -> None:
        process = self._processes.get(part.name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        try:
            async with asyncio.timeout(part.stop_grace_s):
                await process.wait()
        except TimeoutError:
            self._console.warn(part.name, f"did not stop within {part.stop_grace_s:g} s; killing it")
            _kill_group(process)
            await process.wait()

    def _fail(self, part: Part, reason: str) -> NoReturn:
        log = self._logs[part.name]
        for line in log.last_lines(_LINES_SHOWN):
            self._console.warn(part.name, line)
        raise PartFailed(part.name, reason, log_path=log.path)

    async def _show_logs(self) -> None:
        while True:
            self._show_new_lines()
            await asyncio.sleep(LOG_POLL_S)

    def _show_new_lines(self) -> None:
        for name, log in self._logs.items():
            for line in log.new_lines():
                if self._parts[name].shows_log and (shown := important(line)) is not None:
                    self._console.say(name, shown)


@asynccontextmanager
async def supervised(
    make_parts: Callable[[], Sequence[Part]], *, data_dir: Path, console: Console
) -> AsyncGenerator[Supervisor, None]:
    """Run parts while the body runs; it begins when all are ready. Afterwards nothing of them runs.

    `make_parts` is called once, when `data_dir` is ours alone and nothing of an earlier stack runs on it.
    Whatever ends this process, its guardian stops the parts; what a crashed stack of the same `data_dir` left is
    stopped first. A part that fails for good cancels the body.
    Raises: DataDirInUse, PartFailed, and what `make_parts` or the body raises.
    """
    with DataDirLock(data_dir):
        await _stop_crashed_stack(data_dir, console)
        parts = make_parts()
        record = StackRecord.new()
        record.save(record_path(data_dir))
        guardian_log = data_dir / "logs" / "guardian.log"
        async with guarded(record_path(data_dir), stack_id=record.stack_id, log_path=guardian_log):
            supervisor = Supervisor(parts, record=record, data_dir=data_dir, console=console)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = supervisor.start(group)
                    await supervisor.all_ready()
                    yield supervisor
                    for task in tasks:
                        task.cancel()
            except BaseExceptionGroup as failures:
                # The task group wraps what a part or the body raised; one failure is told as itself.
                raise _first(failures) from None
            finally:
                await supervisor.stop()


def _first(failures: BaseExceptionGroup) -> BaseException:
    """Of several failures the one that explains the end: a part's, for the rest may follow from it."""
    ours = [failure for failure in failures.exceptions if isinstance(failure, LocalError)]
    return [*ours, *failures.exceptions][0]


def record_path(data_dir: Path) -> Path:
    """Where the stack of `data_dir` says which processes are its own."""
    return data_dir / "stack.json"


async def _stop_crashed_stack(data_dir: Path, console: Console) -> None:
    record = StackRecord.load(record_path(data_dir))
    if record is None:
        return
    stopped = await asyncio.to_thread(stop_all, record)
    if stopped:
        console.say("stack", f"stopped {stopped} processes that a crashed stack left")


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a part and those of its descendants that stayed in its process group; it leads one of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _described(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"status {status}"
