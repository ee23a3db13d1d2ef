"""Where checks find the engine under test: loaded once, on an event loop of its own thread."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from raymart_core.wire.replica import ChatMessage
from raymart_serve.conformance.checks import Check, Nonconformance, require
from raymart_serve.engines.protocol import (
    Engine,
    EngineError,
    EngineSpec,
    EngineStats,
    Generates,
    MakesImages,
)

Result = TypeVar("Result")

_STARTED_WITHIN_S = 600.0
"""A large engine compiles or captures graphs while it loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The engine under test, and what cannot be known of a model from outside."""

    factory: Callable[[EngineSpec], Engine]
    spec: EngineSpec
    """Use a short context (512 to 2,048 tokens), 2 or more slots and a `waiting_max` of a few."""
    question: str = "What is latency?"
    """Answered greedily in 5 to 200 tokens, after which the model ends by itself, with no draw even close."""
    story: str = "Please tell a story with a cat named Nora."
    """Answered differently each time at a high temperature."""
    multibyte: str = "Repeat after me: naïve 你好 😀"
    """Makes it likely that the answer has characters of several bytes."""
    picture: str = "a red circle on a black background"
    """Prompt of pictures that differ by their seeds."""
    picture_side: int = 64
    """Width and height to ask for, a multiple of 16; the smaller the faster."""
    logprobs: bool = True
    """Whether the engine gives logprobs; one that does not refuses `top_logprobs`."""
    response_format: bool = True
    """Whether the engine holds to a format; one that does not refuses `response_format`."""
    tools: bool = True
    """Whether the engine calls tools; one that does not ignores those that may be called and refuses those that must."""


class Rig:
    """Runs checks against one engine. Blocking; use it as a context manager."""

    def __init__(self, subject: Subject, *, check_timeout_s: float = 120.0, settle_s: float = 10.0) -> None:
        """`settle_s` is how long the engine may take to be idle after its last reader has left."""
        self.subject = subject
        self.spec = subject.spec
        self._check_timeout_s = check_timeout_s
        self._settle_s = settle_s
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conformance", daemon=True)
        self.engine: Engine = subject.factory(subject.spec)
        self.progress: list[int] = []
        """The percents that `load` reported."""
        self.warm_stats: EngineStats = EngineStats(
            running=0, waiting=0, tokens_generated_total=0, requests_aborted_total=0
        )
        """The counters right after `warm_up`."""
        self.load_lag_s = 0.0
        """The longest that `load` and `warm_up` computed on the event loop without giving it back."""

    @property
    def generates(self) -> Generates:
        """The engine, as one that generates text."""
        require(isinstance(self.engine, Generates), f"{self.engine.label} has no `generate`")
        assert isinstance(self.engine, Generates)
        return self.engine

    @property
    def makes_images(self) -> MakesImages:
        """The engine, as one that makes pictures."""
        require(isinstance(self.engine, MakesImages), f"{self.engine.label} has no `make_images`")
        assert isinstance(self.engine, MakesImages)
        return self.engine

    def run(self, check: Check) -> None:
        """Run one check. Raises: Nonconformance, or whatever the engine raised that it must not."""
        self._call(self._checked(check), timeout_s=self._check_timeout_s + 10)

    def spare(self, *, path: Path | None = None) -> Engine:
        """Another engine of the same kind, not loaded, perhaps for other weights; who takes it closes it."""
        return self.subject.factory(replace(self.spec, path=path or self.spec.path))

    async def ask(self, text: str) -> tuple[int, ...]:
        """Prompt ids of one question after the chat template."""
        return await self.generates.encode_chat((ChatMessage(role="user", content=text),))

    async def idle(self, *, within_s: float = 10.0) -> None:
        """Wait until nothing runs or waits. Raises: Nonconformance after `within_s`."""
        await self.until(
            lambda: self._load() == (0, 0), f"still (running, waiting) = {self._load()}", within_s
        )

    async def until(self, holds: Callable[[], bool], why: str, within_s: float = 10.0) -> None:
        """Wait until `holds`. Raises: Nonconformance with `why` after `within_s`."""
        deadline = self._loop.time() + within_s
        while not holds():
            require(self._loop.time() < deadline, f"{why}, after {within_s:.0f} s")
            await asyncio.sleep(0.002)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._started(), timeout_s=_STARTED_WITHIN_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    async def _started(self) -> None:
        lag = LoopLag()
        async with lag:
            await self.engine.load(self.progress.append)
            await self.engine.warm_up()
        self.load_lag_s = lag.longest_s
        self.warm_stats = self.engine.stats()

    async def _checked(self, check: Check) -> None:
        try:
            async with asyncio.timeout(self._check_timeout_s):
                await check.run(self)
        except TimeoutError as error:
            raise Nonconformance(f"it did not come to an end in {self._check_timeout_s} s") from error
        except EngineError as error:
            raise Nonconformance(f"it raised {error!r} where it must not") from error
        except ExceptionGroup as error:
            raise Nonconformance(f"of several at once: {'; '.join(map(repr, error.exceptions))}") from error

    def _load(self) -> tuple[int, int]:
        stats = self.engine.stats()
        return stats.running, stats.waiting

    def _call(self, coroutine: Coroutine[Any, Any, Result], *, timeout_s: float) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def _stop(self) -> None:
        try:
            self._call(self.engine.close(), timeout_s=60)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            if not self._thread.is_alive():
                self._loop.close()


class LoopLag:
    """The longest time for which the event loop's thread computed without turning to its other tasks.

    It counts the thread's own processor time, so that a machine that is busy with something else is no fault.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._ticker is not None
        await asyncio.sleep(0.01)
        self._ticker.cancel()

    async def _tick(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            self.longest_s = max(self.longest_s, now - before)
            before = now
