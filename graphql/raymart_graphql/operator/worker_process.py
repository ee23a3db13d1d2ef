"""The supervisor's side of workers: where they come from, and how one is watched that is another process's child."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence

from raymart_graphql.operator.nursery import PID_BYTES

START_TIMEOUT_S = 120.0
"""For imports on a busy machine, and for the application's start."""
SAY_WHERE = signal.SIGUSR1
"""Has a worker write to standard error where each of its threads is."""
SAID_WITHIN_S = 1.0


class WorkerFailed(Exception):
    """A worker ended, or hung, before it was ready."""


class WorkerProcess:
    """A process by its descriptor, so that a signal never reaches another one that got its number."""

    def __init__(self, pid: int) -> None:
        """Raises: ProcessLookupError when it has ended."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def terminate(self, *, within_s: float) -> None:
        """Ask it to end, and make it after `within_s`."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), within_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()

    async def kill(self) -> None:
        """End it, whatever it does; before that it says where it hangs, if it still can."""
        self._signal(SAY_WHERE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), SAID_WITHIN_S)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()


class Nursery:
    """A process that forks workers. It ends once it was closed and its workers have ended."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` starts one, with a descriptor as its last argument."""
        self._command = command
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def raise_worker(self, listener: socket.socket, control: socket.socket) -> WorkerProcess:
        """A worker that will serve `listener`, and talk by `control`. Raises: WorkerFailed."""
        async with self._asking:
            orders = self._socket or await self._start()
            loop = asyncio.get_running_loop()
            try:
                socket.send_fds(orders, [b"w"], [listener.fileno(), control.fileno()])
                answer = await asyncio.wait_for(loop.sock_recv(orders, PID_BYTES), START_TIMEOUT_S)
                return WorkerProcess(int.from_bytes(answer))
            except (OSError, TimeoutError, OverflowError) as error:
                self.close()
                raise WorkerFailed("the process that makes workers has failed") from error

    def close(self) -> None:
        """Ask for no more workers; those that there are live on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(theirs.fileno()), pass_fds=(theirs.fileno(),)
            )
        ours.settimeout(0)
        self._socket = ours
        return ours
