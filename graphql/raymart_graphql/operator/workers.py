"""Several API processes on one port, kept running: each dead one is replaced, and all are when asked to, one by one.

Workers are forked from a process that has imported the API (`nursery`), another one for each replacement, which brings
newer code. Each worker has a listening socket of its own (SO_REUSEPORT), so that the kernel spreads connections evenly. The sockets
belong to this process: what has not been accepted when a worker ends waits for the next one instead of being reset.
SIGHUP replaces the workers, for instance after an upgrade: a new one serves before the old one is told to retire, which
finishes its streams. SIGTERM lets all finish within `drain_s`. What this process cannot do is outlive itself: workers end
when it does, however it ends. It also introduces them to each other (`introductions`), so that each serves on the nodes of
all. One that lives and does not answer is dead to its customers and keeps its nodes from its siblings: it is killed, and
replaced (`pulse`).
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import structlog

from raymart_core.errors import Unavailable
from raymart_graphql.operator.control import ASK, READY, RETIRE, control_pair
from raymart_graphql.operator.introductions import Introductions
from raymart_graphql.operator.pulse import falls_silent
from raymart_graphql.operator.worker_process import START_TIMEOUT_S, Nursery, WorkerFailed, WorkerProcess

log = structlog.get_logger()

RESTART_PAUSE_S = 1.0
"""Between the death of a worker and its successor's start."""
PATIENCE_S = 10.0
"""What a worker's event loop gets to answer in; the longest that one is held on purpose is a quarter of a second."""
KILL_AFTER_S = 5.0
"""What a worker gets beyond `drain_s`."""
BACKLOG = 2_048
_COMMAND = (sys.executable, "-m", "raymart_graphql.operator.api_nursery")


class Workers:
    """The supervisor. Use `run` in a process that does nothing else."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        drain_s: float,
        patience_s: float = PATIENCE_S,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """One worker for each of `listeners`; `command` starts what raises them (`nursery`).

        A worker whose event loop does not answer for `patience_s` is killed.
        """
        introductions = Introductions()
        self._slots = [
            _Slot(listener, lambda: self._nursery, introductions, patience_s=patience_s)
            for listener in listeners
        ]
        self._command = command
        self._nursery = Nursery(command)
        self._drain_s = drain_s
        self._is_asked_to_stop = asyncio.Event()
        self._is_asked_to_replace = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises: Unavailable when the workers do not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._is_asked_to_stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._is_asked_to_replace.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._work(tasks))
                await self._is_asked_to_stop.wait()
                working.cancel()
                for slot in self._slots:
                    slot.stop_watching()
        except* WorkerFailed:
            raise Unavailable("the API did not start; the lines above say why") from None
        finally:
            await self._end()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as starting:
            for slot in self._slots:
                starting.create_task(slot.fill(tasks))
        log.info("workers.ready", count=len(self._slots))
        while True:
            await self._is_asked_to_replace.wait()
            self._is_asked_to_replace.clear()
            try:
                await self._replace(tasks)
            except WorkerFailed:
                # What serves goes on; a release that does not start must not take the place of one that does.
                log.exception("workers.not_replaced")

    async def _replace(self, tasks: asyncio.TaskGroup) -> None:
        """By workers that have imported what is installed now."""
        former, self._nursery = self._nursery, Nursery(self._command)
        try:
            for slot in self._slots:
                await slot.fill(tasks)
        except WorkerFailed:
            former, self._nursery = self._nursery, former
            raise
        finally:
            former.close()
        log.info("workers.replaced", count=len(self._slots))

    async def _end(self) -> None:
        """Let all finish at once, and take the sockets back."""
        self._nursery.close()
        for slot in self._slots:
            slot.close()
        async with asyncio.TaskGroup() as ending:
            for slot in self._slots:
                for process in list(slot.processes):
                    ending.create_task(process.terminate(within_s=self._drain_s + KILL_AFTER_S))


class _Slot:
    """A listening socket and who serves it."""

    def __init__(
        self,
        listener: socket.socket,
        nursery: Callable[[], Nursery],
        introductions: Introductions,
        *,
        patience_s: float,
    ) -> None:
        self._listener = listener
        self._patience_s = patience_s
        self._introductions = introductions
        self._nursery = nursery
        self._serving: WorkerProcess | None = None
        self._filling = asyncio.Lock()
        self._watching: set[asyncio.Task[None]] = set()
        self.processes: dict[WorkerProcess, socket.socket] = {}
        """All that live, with those that retire, and their control connections."""

    async def fill(self, tasks: asyncio.TaskGroup) -> None:
        """Have a new worker serve, which `tasks` watch, then let the former one retire. Raises: WorkerFailed."""
        async with self._filling:
            process = await self._start()
            self._watching.add(tasks.create_task(self._watch(process, tasks)))
            former, self._serving = self._serving, process
        if former is not None and (control := self.processes.get(former)) is not None:
            with contextlib.suppress(OSError):
                control.send(RETIRE)

    def stop_watching(self) -> None:
        """Whoever ends from now on stays away."""
        for task in self._watching:
            task.cancel()

    def close(self) -> None:
        """Give the socket up; workers have it too, until they have accepted what waits."""
        self._listener.close()

    async def _watch(self, process: WorkerProcess, tasks: asyncio.TaskGroup) -> None:
        """Replace `process` should it die."""
        judging = asyncio.create_task(self._judge(process))
        try:
            await process.wait()
        finally:
            judging.cancel()
        control = self.processes.pop(process)
        self._introductions.leave(control)
        control.close()
        if process is self._serving:
            log.error("worker.died", pid=process.pid)
        while process is self._serving:
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await self.fill(tasks)
            except WorkerFailed:
                log.exception("worker.not_started")

    async def _judge(self, process: WorkerProcess) -> None:
        """Kill `process` should it hang. One that retires is not waited for, and ends when it likes."""
        is_silent = await falls_silent(self.processes[process], patience_s=self._patience_s)
        if is_silent and process is self._serving:
            log.error("worker.hung", pid=process.pid, asked=ASK.decode(), unanswered_s=self._patience_s)
            await process.kill()

    async def _start(self) -> WorkerProcess:
        ours, theirs = control_pair()
        self._introductions.join(ours)
        try:
            with theirs:
                process = await self._nursery().raise_worker(self._listener, theirs)
            self.processes[process] = ours
            async with asyncio.timeout(START_TIMEOUT_S):
                said = await asyncio.get_running_loop().sock_recv(ours, len(READY))
            if said != READY:
                raise WorkerFailed(f"worker {process.pid} ended before it was ready")
        except (WorkerFailed, TimeoutError, ConnectionError) as error:
            self._introductions.leave(ours)
            ours.close()
            raise WorkerFailed("a worker did not start") from error
        log.info("worker.ready", pid=process.pid)
        return process


def listen_together(host: str, port: int, *, count: int) -> list[socket.socket]:
    """`count` listening sockets on one address; one alone shares it with nobody. Raises: OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listeners: list[socket.socket] = []
    for _ in range(count):
        wanted = listeners[0].getsockname()[:2] if listeners else address[:2]
        listeners.append(socket.create_server(wanted, family=family, backlog=BACKLOG, reuse_port=count > 1))
    return listeners
