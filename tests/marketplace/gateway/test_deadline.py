"""Waits are bounded though the timer first fires before any of them is due."""

import asyncio

import pytest

from raymart_core.errors import DeadlineExceeded
from raymart_marketplace.gateway import deadline
from raymart_marketplace.gateway.deadline import Patience, TimedOut


@pytest.fixture(autouse=True)
def _looks_soon(monkeypatch):
    monkeypatch.setattr(deadline, "LOOK_S", 0.01)


async def _forever():
    await asyncio.Event().wait()


class TestPatience:
    async def test_a_wait_ends_at_its_limit_and_not_at_the_first_look(self):
        patience, loop = Patience(total_s=60.0), asyncio.get_running_loop()
        began_at = loop.time()
        with pytest.raises(TimedOut):
            await patience.wait(_forever, limit_s=0.1)
        assert loop.time() - began_at >= 0.1
        patience.close()

    async def test_the_deadline_ends_a_wait_whose_limit_is_longer(self):
        patience = Patience(total_s=0.05)
        with pytest.raises(DeadlineExceeded):
            await patience.wait(_forever, limit_s=60.0)
        patience.close()

    async def test_a_shorter_wait_after_a_longer_one_has_its_own_limit(self):
        patience = Patience(total_s=60.0)
        await patience.wait(lambda: asyncio.sleep(0.03), limit_s=60.0)
        with pytest.raises(TimedOut):
            await patience.wait(_forever, limit_s=0.02)
        assert await patience.wait(lambda: asyncio.sleep(0, result=7), limit_s=60.0) == 7
        patience.close()

    async def test_another_one_beside_it_waits_at_the_same_time_to_the_same_deadline(self):
        patience = Patience(total_s=0.05)
        await asyncio.sleep(0.02)
        beside = patience.beside()
        assert beside.deadline_at == patience.deadline_at
        waits = (patience.wait(_forever, limit_s=60.0), beside.wait(_forever, limit_s=60.0))
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(each) for each in ends] == [DeadlineExceeded] * 2
        patience.close()
        beside.close()
