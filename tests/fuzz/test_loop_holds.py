"""A loop that was held names its culprit: the report of `make fuzz` rests on it."""

import asyncio
import gc
import time

from support.loop_holds import LoopHolds, holds_measured

WAIT_S = 60


def compute(until) -> None:
    """Spend processor time until `until()`."""
    deadline = time.thread_time() + WAIT_S
    while not until():
        assert time.thread_time() < deadline


def spend(cpu_s: float) -> None:
    begun = time.thread_time()
    compute(lambda: time.thread_time() - begun >= cpu_s)


async def held_by(holds: LoopHolds, work) -> None:
    """Hold the loop with a task of its own, and let others run before and after."""

    async def culprit() -> None:
        work()

    await asyncio.create_task(asyncio.sleep(0))
    await asyncio.create_task(culprit())
    await asyncio.create_task(asyncio.sleep(0))


class TestHold:
    async def test_names_the_task_and_the_lines_it_was_seen_at(self):
        with holds_measured() as holds:
            await held_by(holds, lambda: compute(lambda: holds._running[0].samples.total() >= 3))
        longest = holds.longest[0]
        assert "held_by.<locals>.culprit() done" in longest.callback
        assert (
            sum(count for where, count in longest.samples.items() if "test_loop_holds.py" in where)
            == longest.samples.total()
        )
        assert longest.generation is None
        assert "culprit" in longest.told()
        assert "without the garbage collector" in longest.told()

    async def test_names_the_collector(self):
        gc.disable()
        try:
            with holds_measured() as holds:
                await held_by(holds, gc.collect)
        finally:
            gc.enable()
        longest = holds.longest[0]
        assert longest.generation == 2
        assert 0 < longest.collected_s <= longest.cpu_s
        assert holds.collections == {2: 1}
        assert holds.longest_collection_s == longest.collected_s
        assert "garbage collector's, generation 2" in longest.told()

    async def test_only_the_longest_are_kept_longest_first(self):
        with holds_measured() as holds:
            for share_s in (0.004, 0.016, 0.001, 0.008):
                await held_by(holds, lambda share_s=share_s: spend(share_s))
        first, second, third = holds.longest
        assert first.cpu_s >= second.cpu_s >= third.cpu_s
        assert (first.cpu_s >= 0.016, second.cpu_s >= 0.008, third.cpu_s >= 0.004) == (True, True, True)

    async def test_nothing_is_left_behind(self):
        run, callbacks = asyncio.Handle._run, list(gc.callbacks)
        with holds_measured():
            assert asyncio.Handle._run is not run
        assert (asyncio.Handle._run, gc.callbacks) == (run, callbacks)
