"""Batches: whoever asks while one is under way is answered by the next."""

import asyncio

import pytest

from raymart_marketplace.supply.batches import Batches


class Work:
    """Answers each key with twice its ask, when it is let."""

    def __init__(self):
        self.batches = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure = None

    async def __call__(self, asked):
        self.batches.append(dict(asked))
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {key: 2 * ask for key, ask in asked.items() if ask is not None}


@pytest.fixture
def work():
    return Work()


async def asking(batches, *asks):
    tasks = [asyncio.create_task(batches.ask(key, ask)) for key, ask in asks]
    await asyncio.sleep(0)
    return tasks


async def under_way(work, count):
    while len(work.batches) < count:
        await asyncio.sleep(0)


class TestBatches:
    async def test_one_who_asks_alone_is_answered_at_once(self, work):
        assert await Batches(work, missing=-1).ask("a", 1) == 2

    async def test_those_who_come_meanwhile_share_the_next_batch(self, work):
        batches = Batches(work, missing=-1)
        work.may_answer.clear()
        first = await asking(batches, ("a", 1))
        await under_way(work, 1)
        rest = await asking(batches, ("b", 2), ("c", 3), ("d", 4))
        work.may_answer.set()
        assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8]
        assert work.batches == [{"a": 1}, {"b": 2, "c": 3, "d": 4}]

    async def test_a_batch_is_bounded(self, work):
        batches = Batches(work, missing=-1, size_max=2)
        tasks = await asking(batches, *[(number, number) for number in range(5)])
        await asyncio.gather(*tasks)
        assert [len(batch) for batch in work.batches] == [2, 2, 1]

    async def test_two_asks_under_one_key_are_one_and_the_newer_is_worked_on(self, work):
        batches = Batches(work, missing=-1)
        assert await asyncio.gather(*await asking(batches, ("a", 1), ("a", 5))) == [10, 10]
        assert work.batches == [{"a": 5}]

    async def test_a_key_that_is_left_out_is_missing(self, work):
        assert await Batches(work, missing=-1).ask("a", None) == -1

    async def test_a_failure_reaches_its_own_batch_and_nobody_else(self, work):
        batches = Batches(work, missing=-1)
        work.failure = OSError("away")
        for task in await asking(batches, ("a", 1), ("b", 2)):
            with pytest.raises(OSError, match="away"):
                await task
        work.failure = None
        assert await batches.ask("a", 1) == 2

    async def test_one_who_gives_up_takes_nobody_along(self, work):
        batches = Batches(work, missing=-1)
        work.may_answer.clear()
        impatient, patient = await asking(batches, ("a", 1), ("a", 1))
        await under_way(work, 1)
        impatient.cancel()
        work.may_answer.set()
        assert await patient == 2
        assert impatient.cancelled()
