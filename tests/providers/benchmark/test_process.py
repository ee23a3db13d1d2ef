import asyncio
import os
import sys

import pytest

from raymart_core.wire.machine import BenchmarkOrder
from raymart_providers.benchmark.process import WorkerProcess


def order(check="disk", **changes):
    values = {"order": "o1", "check": check, "size": 2**20, "timeout_s": 20.0}
    return BenchmarkOrder(**{**values, **changes})


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
async def worker(tmp_path):
    worker = WorkerProcess(tmp_path)
    yield worker
    await worker.close()


class TestCarryOut:
    async def test_one_process_serves_several_orders(self, worker):
        assert (await worker.carry_out(order())).amount == 2**20
        first = worker.pid
        assert (await worker.carry_out(order(order="o2"))).order == "o2"
        assert worker.pid == first

    async def test_another_device_means_another_process(self, worker):
        await worker.carry_out(order())
        first = worker.pid
        await worker.carry_out(order(device="GPU-1"))
        assert worker.pid != first
        assert not alive(first)

    async def test_one_that_hangs_is_killed_and_told_of(self, tmp_path):
        worker = WorkerProcess(tmp_path, (sys.executable, "-c", "import time; time.sleep(600)"))
        result = await worker.carry_out(order(timeout_s=0.2))
        assert "0.2 s" in result.problem
        assert worker.pid is None

    async def test_one_that_dies_is_told_of_and_the_next_order_has_a_new_one(self, worker):
        await worker.carry_out(order())
        os.kill(worker.pid, 9)
        result = await worker.carry_out(order())
        # The kernel may not have told of its end yet: then the order goes to the dead one.
        assert result.problem == "" or "is gone" in result.problem
        assert (await worker.carry_out(order())).problem == ""

    async def test_a_command_that_is_not_there_is_told_of(self, tmp_path):
        worker = WorkerProcess(tmp_path, ("/nowhere/python",))
        assert "is gone" in (await worker.carry_out(order())).problem

    async def test_a_cancelled_order_leaves_no_process(self, tmp_path):
        worker = WorkerProcess(tmp_path, (sys.executable, "-c", "import time; time.sleep(600)"))
        asking = asyncio.create_task(worker.carry_out(order()))
        async with asyncio.timeout(30):
            while worker.pid is None:
                await asyncio.sleep(0.005)
        pid = worker.pid
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not alive(pid)
