"""What holds an event loop: for how much processor time, which task, at which lines, and the garbage collector's part."""

import asyncio
import contextlib
import gc
import heapq
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

SHOWN = 3
"""How many of the longest holds are told."""
SAMPLED_AFTER_S = 0.05
"""A callback that has run for so long is looked into, from another thread."""
SAMPLED_EVERY_S = 0.01
FRAMES_MAX = 12
LINES_MAX = 3
_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Hold:
    """One callback, a task's step, with all that the interpreter did in it."""

    cpu_s: float = 0.0
    """CPU and not time: on a busy machine the loop may be late through nobody's fault. One callback and not a turn of
    the loop: the later a process gets its turn, the more requests are ready in it at once."""
    callback: str = ""
    collected_s: float = 0.0
    """Of `cpu_s`, what the garbage collector took."""
    generation: int | None = None
    """The oldest that was collected meanwhile."""
    samples: Counter[str] = field(default_factory=Counter)
    """How often the thread was seen where."""

    def told(self) -> str:
        """For a report, with the lines that were seen most often."""
        collector = (
            "without the garbage collector"
            if self.generation is None
            else f"{self.collected_s * 1000:.0f} ms of them the garbage collector's, generation {self.generation}"
        )
        seen = [
            f"\n         {count} times at {where}" for where, count in self.samples.most_common(LINES_MAX)
        ]
        return f"{self.cpu_s * 1000:.0f} ms by {self.callback}, {collector}{''.join(seen)}"


class LoopHolds:
    """The longest holds of the event loop of the thread that made this, and the garbage collector's runs."""

    def __init__(self) -> None:
        self.collections: Counter[int] = Counter()
        """Runs of the collector in this thread, by generation."""
        self.longest_collection_s = 0.0
        self._thread_id = threading.get_ident()
        self._longest: list[tuple[float, int, Hold]] = []
        self._count = 0
        self._running: tuple[Hold, float] | None = None
        self._collecting_since_s = 0.0

    @property
    def longest(self) -> list[Hold]:
        """At most `SHOWN`, the longest first."""
        return [hold for _, _, hold in sorted(self._longest, reverse=True)]

    def run(self, handle: asyncio.Handle, run: Any) -> None:
        """Run a callback by `run`, and keep what it took when that is much."""
        hold, before = Hold(), time.thread_time()
        self._running = hold, time.monotonic()
        try:
            run(handle)
        finally:
            self._running = None
            hold.cpu_s = time.thread_time() - before
            if len(self._longest) < SHOWN or hold.cpu_s > self._longest[0][0]:
                hold.callback = named(handle)
                self._keep(hold)

    def sample(self) -> None:
        """Note where the thread is, if its callback has run for long. Any other thread may ask."""
        running = self._running
        if running is None or time.monotonic() - running[1] < SAMPLED_AFTER_S:
            return
        frame = sys._current_frames().get(self._thread_id)
        # A callback that ended meanwhile would be told the lines of the next.
        if frame is not None and self._running is running:
            running[0].samples[" < ".join(places(frame))] += 1

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """For `gc.callbacks`."""
        if threading.get_ident() != self._thread_id:
            return
        if phase == "start":
            self._collecting_since_s = time.thread_time()
            return
        spent_s = time.thread_time() - self._collecting_since_s
        self.collections[info["generation"]] += 1
        self.longest_collection_s = max(self.longest_collection_s, spent_s)
        if self._running is not None:
            hold = self._running[0]
            hold.collected_s += spent_s
            hold.generation = max(hold.generation or 0, info["generation"])

    def _keep(self, hold: Hold) -> None:
        self._count += 1
        entry = hold.cpu_s, self._count, hold
        if len(self._longest) < SHOWN:
            heapq.heappush(self._longest, entry)
        else:
            heapq.heapreplace(self._longest, entry)


@contextlib.contextmanager
def holds_measured() -> Iterator[LoopHolds]:
    """Measure every callback of this thread's event loop, which must be asyncio's own."""
    holds, run, ended = LoopHolds(), asyncio.Handle._run, threading.Event()

    def measured(handle: asyncio.Handle) -> None:
        holds.run(handle, run)

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            holds.sample()

    watching = threading.Thread(target=watch, name="loop-holds", daemon=True)
    asyncio.Handle._run = measured  # type: ignore[method-assign]
    gc.callbacks.append(holds.collected)
    watching.start()
    try:
        yield holds
    finally:
        ended.set()
        watching.join()
        gc.callbacks.remove(holds.collected)
        asyncio.Handle._run = run  # type: ignore[method-assign]


def named(handle: asyncio.Handle) -> str:
    """Which task's step a callback was, or which function."""
    callback = handle._callback  # type: ignore[attr-defined]
    # The step of a task in C shows as "TaskStepMethWrapper" and knows its task.
    task = getattr(callback, "__self__", None)
    return (repr(task) if isinstance(task, asyncio.Task) else repr(handle)).replace(f"{_ROOT}/", "")[:300]


def places(frame: FrameType | None) -> Iterator[str]:
    """Where a thread is, innermost first."""
    for _ in range(FRAMES_MAX):
        if frame is None:
            return
        code = frame.f_code
        path = code.co_filename.replace(f"{_ROOT}/", "").rpartition("/site-packages/")[2]
        yield f"{path}:{frame.f_lineno} {code.co_qualname}"
        frame = frame.f_back
