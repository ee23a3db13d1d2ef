"""The pool controller's hold on Ray Serve: a worker process that is started anew whenever it dies or hangs."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from raymart_core.wire.link import Observed, Placement
from raymart_providers.errors import ProviderError
from raymart_providers.own_group import end_group

log = structlog.get_logger()

_ANSWER_BYTES_MAX = 4 * 1024 * 1024


class PoolAway(ProviderError):
    """Ray Serve cannot be reached, or it did not answer in time."""


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """As `pool_worker.WorkerRequest`, which cannot be imported here: its module imports ray."""

    placements: tuple[Placement, ...] | None = None
    demand: dict[str, float] | None = None


class _Answer(msgspec.Struct, frozen=True):
    """As `pool_worker.WorkerAnswer`."""

    observed: tuple[Observed, ...] = ()
    ray_nodes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    error: str | None = None


class PoolProcess:
    """One worker at a time. Every failure ends the worker; the next call starts another."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        connect_timeout_s: float = 60.0,
        call_timeout_s: float = 30.0,
    ) -> None:
        """`environment` is the whole one of the worker; by default this process's."""
        self._command = tuple(command)
        self._environment = environment
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self.ray_nodes: tuple[str, ...] = ()
        """Names of the Ray cluster's live nodes, as of the last answer."""
        self.unknown: tuple[str, ...] = ()
        """Applications of Serve that are no placement, as of the last answer."""

    @property
    def connected(self) -> bool:
        """Whether a worker is up; a fresh one knows nothing of what was applied before."""
        return self._process is not None and self._process.returncode is None

    async def connect(self) -> None:
        """Start a worker and wait until it has joined the cluster. Raises: PoolAway."""
        await self.close()
        starting = asyncio.ensure_future(self._start())
        try:
            self._process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A start that is cancelled halfway would leave a process that nobody knows.
            self._process = await starting
            await self.close()
            raise
        await self._hear(timeout_s=self._connect_timeout_s)
        log.info("pool.connected", pid=self._process.pid)

    async def call(
        self, placements: Sequence[Placement] | None, *, demand: Mapping[str, float] | None = None
    ) -> tuple[Observed, ...]:
        """Apply `placements` (all that should run) unless None, tell what waits for them unless None, then observe.

        Raises: PoolAway.
        """
        process = self._process
        if process is None or process.stdin is None or not self.connected:
            raise PoolAway("the pool worker has ended")
        request = _Request(
            placements=None if placements is None else tuple(placements),
            demand=None if demand is None else dict(demand),
        )
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            async with asyncio.timeout(self._call_timeout_s):
                await process.stdin.drain()
        except (OSError, RuntimeError) as error:
            # uvloop says by a RuntimeError that a pipe is closed.
            await self.close()
            raise PoolAway(f"the pool worker is gone ({error})") from None
        return await self._hear(timeout_s=self._call_timeout_s)

    async def close(self) -> None:
        """Kill the worker and whatever it started. Serve and its replicas live on in the cluster."""
        process, self._process = self._process, None
        if process is not None:
            await end_group(process)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_ANSWER_BYTES_MAX,
            env=self._environment,
            # A group of its own, so that Ctrl-C in a terminal reaches the controller, which then ends it in order.
            start_new_session=True,
        )

    async def _hear(self, *, timeout_s: float) -> tuple[Observed, ...]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
            answer = (
                msgspec.json.decode(line, type=_Answer) if line else _Answer(error="the worker has ended")
            )
        except (TimeoutError, ValueError) as error:
            answer = _Answer(error=f"no answer within {timeout_s:g} s ({type(error).__name__})")
        except BaseException:
            # Cancelled between question and answer: the next answer would be the last question's.
            await self.close()
            raise
        if answer.error is not None:
            await self.close()
            raise PoolAway(answer.error)
        self.ray_nodes, self.unknown = answer.ray_nodes, answer.unknown
        return answer.observed
