import asyncio

import pytest

from raymart_serve.engines.protocol import EngineBusy
from raymart_serve.engines.slots import SlotGate


class TestSlotGate:
    async def test_waiters_are_served_in_order(self) -> None:
        gate = SlotGate(slots=1, waiting_max=5)
        await gate.acquire()
        order: list[int] = []

        async def work(number: int) -> None:
            await gate.acquire()
            order.append(number)
            gate.release()

        tasks = [asyncio.create_task(work(number)) for number in range(3)]
        await asyncio.sleep(0)
        assert (gate.running, gate.waiting) == (1, 3)
        gate.release()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]
        assert (gate.running, gate.waiting) == (0, 0)

    async def test_one_more_than_may_wait_is_refused_at_once(self) -> None:
        gate = SlotGate(slots=1, waiting_max=1)
        await gate.acquire()
        waiting = asyncio.create_task(gate.acquire())
        await asyncio.sleep(0)
        with pytest.raises(EngineBusy, match="all 1 slots are busy and 1 requests wait"):
            await gate.acquire()
        gate.release()
        await waiting

    async def test_cancelled_waiter_leaves_nothing_behind(self) -> None:
        gate = SlotGate(slots=1, waiting_max=1)
        await gate.acquire()
        waiting = asyncio.create_task(gate.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert gate.waiting == 0
        gate.release()
        await gate.acquire()
        assert gate.running == 1
