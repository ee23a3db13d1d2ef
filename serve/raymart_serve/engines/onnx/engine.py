"""What the three ONNX engines share: a loaded graph, slots, worker threads, health, stopping.

A request is one piece of work in a thread; ONNX Runtime lets other threads run while it computes. A caller that leaves
stops the graph at its next node.
"""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from raymart_serve.engines.onnx.revision import OnnxRevision
from raymart_serve.engines.onnx.session import Graph, Stop, Stopped, library
from raymart_serve.engines.protocol import EngineFailed, EngineHealth, EngineSpec, EngineStats
from raymart_serve.engines.slots import SlotGate

Result = TypeVar("Result")


class OnnxEngine(ABC):
    """Implements `engines.protocol.Engine`; each subclass adds what its models are for."""

    def __init__(self, spec: EngineSpec, revision: OnnxRevision) -> None:
        self._spec = spec
        self._revision = revision
        self._gate = SlotGate(slots=spec.slots, waiting_max=spec.waiting_max)
        self._workers = ThreadPoolExecutor(spec.slots, thread_name_prefix="onnx-run")
        self._graph: Graph | None = None
        self._running: dict[Stop, float] = {}
        """Since when each request's thread computes without a sign of life, on the monotonic clock."""
        self._requests_aborted = 0
        self._closed = False

    @property
    def label(self) -> str:
        """Name and version of the library."""
        return library()

    @property
    def context_length(self) -> int:
        """Tokens of one input."""
        return min(self._spec.context_length, self._revision.tokens_max)

    @property
    def capacity(self) -> int:
        """Slots."""
        return self._spec.slots

    async def load(self, progress: Callable[[int], None]) -> None:
        """Load the graph and what belongs to it. Raises: EngineFailed."""
        progress(0)
        await asyncio.get_running_loop().run_in_executor(self._workers, self._load)
        progress(100)

    async def warm_up(self) -> None:
        """Run once. Raises: EngineFailed."""
        await self._warm_up()
        await self._gate.idle()

    async def health(self) -> EngineHealth:
        """Loading before `load`; failing when a run takes longer than `stall_s`."""
        if self._graph is None:
            return EngineHealth(state="loading", percent=0)
        now = time.monotonic()
        stalled_s = max((now - since for since in self._running.values()), default=0.0)
        if stalled_s > self._spec.stall_s:
            return EngineHealth(state="failing", reason=f"one run has taken {stalled_s:.0f} s")
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        """Counters now; nothing is generated here."""
        return EngineStats(
            running=self._gate.running,
            waiting=self._gate.waiting,
            tokens_generated_total=0,
            requests_aborted_total=self._requests_aborted,
        )

    async def close(self) -> None:
        """Stop all runs, wait for their threads, free the graph."""
        self._closed = True
        for stop in tuple(self._running):
            stop.set()
        await asyncio.get_running_loop().run_in_executor(None, self._shut_down)

    @abstractmethod
    def _prepare(self, graph: Graph) -> None:
        """Check that the graph is what the engine is for and read what else it needs. Raises: EngineFailed."""

    @abstractmethod
    async def _warm_up(self) -> None:
        """Run the smallest request. Raises: EngineFailed."""

    async def _work(self, run: Callable[[Graph, Stop], Result]) -> Result:
        """`run` in a thread, once there is a slot. Leaving stops it. Raises: EngineBusy, and what `run` raises."""
        await self._gate.acquire()
        stop = Stop()
        self._running[stop] = time.monotonic()
        if self._closed or self._graph is None:
            self._ended(stop)
            raise EngineFailed("the model is not loaded")
        work = asyncio.get_running_loop().run_in_executor(self._workers, run, self._graph, stop)
        # The slot is free when the thread is, which may be a node of the graph after the caller has left.
        work.add_done_callback(lambda _: self._ended(stop))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._requests_aborted += 1
            # What becomes of the run is nobody's business any more.
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            stop.set()
            raise
        except Stopped:
            raise EngineFailed("the engine was closed") from None

    def _alive(self, stop: Stop) -> None:
        """Between two runs of one request: note that it goes on, and pause where a test wants that. Raises: Stopped."""
        stop.pause(self._spec.step_delay_s)
        self._running[stop] = time.monotonic()

    def _ended(self, stop: Stop) -> None:
        self._running.pop(stop, None)
        self._gate.release()

    def _load(self) -> None:
        threads = self._spec.threads or max(1, (os.cpu_count() or 2) - 1)
        graph = Graph(self._revision.model, threads=threads)
        self._prepare(graph)
        self._graph = graph

    def _shut_down(self) -> None:
        self._workers.shutdown(wait=True)
        self._graph = None
