"""The worker of a process: called from any thread, and looking by itself when nobody calls."""

import asyncio
import threading

import pytest

from raymart_billing.work import Task, process
from raymart_billing.work.process import LANES_MAX, WorkProcess
from raymart_billing.work.registry import by_name
from support.background import control_settings


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(process, "ALONE_AFTER_S", 0.1)


@pytest.fixture
def started(database_url, work):
    """Starts a process with one handler for this test's rows; closes it at the end."""
    processes = []

    def start(handle, url=database_url):
        made = WorkProcess(control_settings(url), by_name([Task(name=work.name, handle=handle)], []))
        made.start()
        processes.append(made)
        return made

    yield start
    for made in processes:
        made.close()


async def until(holds):
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.02)


class TestDrain:
    async def test_threads_may_call_at_once(self, work, started):
        seen = []

        async def handle(_, subject):
            seen.append(subject)

        made = started(handle)
        for number in range(20):
            await work.enqueue(str(number))
        ran = await asyncio.gather(*[asyncio.to_thread(made.drain) for _ in range(4)])
        assert (sum(ran), sorted(map(int, seen))) == (20, list(range(20)))

    async def test_a_database_that_is_away_is_a_log_line(self, started):
        made = started(None, url="postgresql://raymart@127.0.0.1:1/raymart")
        assert await asyncio.to_thread(made.drain) == 0


class TestTick:
    async def test_ticks_that_piled_up_look_once(self, work, started, monkeypatch):
        monkeypatch.setattr(process, "TICKS_APART_S", 60)
        ran = []

        async def handle(_, subject):
            ran.append(subject)

        made = started(handle)
        for _ in range(50):
            await asyncio.to_thread(made.tick)
        await work.enqueue()
        await asyncio.to_thread(made.tick)
        assert ran == []
        assert await asyncio.to_thread(made.drain) == 1, "a hint is always followed"


class TestAlone:
    async def test_work_is_found_though_nobody_calls(self, work, started, impatient):
        async def handle(_, __):
            pass

        started(handle)
        outbox_id = await work.enqueue()

        async def is_done():
            return (await work.row(outbox_id)).state == "done"

        await until(is_done)

    async def test_long_handlers_do_not_hold_up_the_others(self, work, started, impatient):
        """All but one lane are taken for as long as the test wants."""
        go = threading.Event()

        async def handle(_, subject):
            while subject == "long" and not go.is_set():
                await asyncio.sleep(0.02)

        started(handle)
        for _ in range(LANES_MAX - 1):
            await work.enqueue("long")
        quick = await work.enqueue("quick")

        async def is_done():
            return (await work.row(quick)).state == "done"

        await until(is_done)
        go.set()


class TestClose:
    async def test_what_runs_is_handed_back(self, work, started, impatient):
        begun = threading.Event()

        async def handle(_, __):
            begun.set()
            await asyncio.Event().wait()

        made = started(handle)
        outbox_id = await work.enqueue()
        assert await asyncio.to_thread(begun.wait, 20)
        await asyncio.to_thread(made.close)
        assert await work.row(outbox_id) == ("ready", 0, 1, None)
