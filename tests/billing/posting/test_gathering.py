"""Batches: who comes alone waits for nothing, who comes in company shares."""

import asyncio
from math import inf

import pytest

from raymart_billing.posting.gathering import SHARED_MIN, Gathering


def gathering(*, items_max=100, batch_max=100, pace_s=0.0, pace_each_s=inf):
    return Gathering(items_max=items_max, batch_max=batch_max, pace_s=pace_s, pace_each_s=pace_each_s)


class TestBatch:
    async def test_a_reader_takes_all_that_is_there(self):
        items = gathering()
        for item in range(5):
            items.put(item)
        assert await items.batch() == [0, 1, 2, 3, 4]
        assert len(items) == 0

    async def test_a_reader_waits_for_the_first(self):
        items = gathering()
        reading = asyncio.create_task(items.batch())
        await asyncio.sleep(0)
        assert not reading.done()
        items.put("first")
        items.put("second")
        assert await reading == ["first", "second"]

    async def test_more_than_a_batch_is_left_in_its_order(self):
        items = gathering(batch_max=2)
        for item in range(5):
            items.put(item)
        assert [await items.batch() for _ in range(3)] == [[0, 1], [2, 3], [4]]

    async def test_a_full_one_takes_nothing_more_until_it_is_read(self):
        items = gathering(items_max=2)
        assert [items.put(item) for item in range(3)] == [True, True, False]
        await items.batch()
        assert items.put(3)

    async def test_a_reader_that_was_cancelled_takes_nothing_along(self):
        items = gathering()
        reading = asyncio.create_task(items.batch())
        await asyncio.sleep(0)
        items.put("kept")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await items.batch() == ["kept"]


class TestClose:
    async def test_what_is_there_is_read_and_then_nothing(self):
        items = gathering()
        items.put("last")
        items.close()
        assert await items.batch() == ["last"]
        assert await items.batch() == []

    async def test_a_reader_that_waits_is_told(self):
        items = gathering()
        reading = asyncio.create_task(items.batch())
        await asyncio.sleep(0)
        items.close()
        assert await reading == []


class TestPace:
    async def read(self, items, count):
        for item in range(count):
            items.put(item)
        return await items.batch()

    async def test_few_never_wait(self):
        items = gathering(pace_s=3600)
        async with asyncio.timeout(30):
            for _ in range(3):
                await self.read(items, SHARED_MIN - 1)

    async def test_the_first_that_many_share_waits_for_nothing(self):
        async with asyncio.timeout(30):
            assert len(await self.read(gathering(pace_s=3600), 50)) == 50

    async def test_the_next_one_begins_no_sooner_than_a_pace_later_with_all_that_came_meanwhile(self):
        items = gathering(pace_s=0.05)
        await self.read(items, SHARED_MIN)
        begun = asyncio.get_running_loop().time()
        items.put("early")
        reading = asyncio.create_task(items.batch())
        asyncio.get_running_loop().call_later(0.01, items.put, "late")
        assert await reading == ["early", "late"]
        assert asyncio.get_running_loop().time() - begun >= 0.045

    async def test_the_pace_is_of_as_many_as_share(self):
        """Two of 25 ms each; of the hour that it may be at most nothing is seen."""
        items = gathering(pace_s=3600, pace_each_s=0.025)
        await self.read(items, SHARED_MIN)
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(10):
            await self.read(items, 1)
        assert asyncio.get_running_loop().time() - begun >= 0.045

    async def test_the_pace_of_many_is_bounded(self):
        items = gathering(pace_s=0.01, pace_each_s=3600)
        await self.read(items, 50)
        async with asyncio.timeout(10):
            assert await self.read(items, 1) == [0]
