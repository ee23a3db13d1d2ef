"""One model's queue: who runs, who waits, who is told to come again."""

import asyncio
from uuid import UUID

import pytest

from raymart_marketplace.gateway.shedding.queue import (
    HEADROOM,
    RETRY_AFTER_S_MAX,
    STANDING_AFTER_S,
    ModelBusy,
    ModelQueue,
    QueueLimits,
)

ONE, TWO = UUID(int=1), UUID(int=2)


class Time:
    """A loop whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


def queue_of(slots: int, time: Time | None = None, **limits: object) -> ModelQueue:
    queue = ModelQueue("a/model", QueueLimits(**limits), time or Time())
    queue.resize(slots=slots, busy=0)
    return queue


def filled(queue: ModelQueue) -> ModelQueue:
    while queue.enter():
        pass
    return queue


async def waiting(queue: ModelQueue, organization: UUID = ONE, *, left_s: float = 60.0) -> asyncio.Task[None]:
    """A task that stands in the queue by now."""
    before = queue.waiting
    task = asyncio.create_task(queue.wait(organization, left_s=left_s))
    while queue.waiting == before and not task.done():
        await asyncio.sleep(0)
    return task


class TestRunning:
    def test_as_many_run_as_there_are_slots_and_a_quarter(self):
        assert filled(queue_of(8)).running == 8 * HEADROOM

    def test_without_anything_live_everybody_may(self):
        queue = queue_of(0)
        for _ in range(1_000):
            assert queue.enter()

    async def test_who_leaves_lets_the_first_of_the_queue_in(self):
        queue = filled(queue_of(1))
        first, second = await waiting(queue), await waiting(queue)
        queue.leave(began_at=99.0)
        await first
        assert (queue.running, queue.waiting, second.done()) == (2, 1, False)
        queue.leave(began_at=99.0)
        await second

    async def test_nobody_overtakes_the_queue(self):
        queue = filled(queue_of(1))
        first = await waiting(queue)
        queue.limit = 10.0
        assert not queue.enter()
        queue.wake()
        await first
        assert queue.enter()

    async def test_organizations_take_turns(self):
        queue = filled(queue_of(1))
        many = [await waiting(queue, ONE) for _ in range(3)]
        one = await waiting(queue, TWO)
        queue.leave(began_at=99.0)
        queue.leave(began_at=99.0)
        await asyncio.sleep(0)
        await one
        assert [task.done() for task in many] == [True, False, False]
        queue.resize(slots=0, busy=0)
        await asyncio.gather(*many)

    async def test_new_endpoints_let_in_those_that_wait(self):
        queue = filled(queue_of(1))
        task = await waiting(queue)
        queue.resize(slots=100, busy=0)
        await task


class TestWaiting:
    async def test_who_is_cancelled_leaves_the_queue_to_others(self):
        queue = filled(queue_of(1))
        gone, next_ = await waiting(queue), await waiting(queue)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        queue.leave(began_at=99.0)
        await next_
        assert (queue.running, queue.waiting) == (2, 0)

    async def test_who_is_cancelled_as_it_is_let_in_gives_its_turn_back(self):
        """Both orders of the two, before the task can run."""
        for cancel_first in (True, False):
            queue = filled(queue_of(1))
            task = await waiting(queue)
            if cancel_first:
                task.cancel()
            queue.leave(began_at=99.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (queue.running, queue.waiting) == (1, 0)

    async def test_who_waits_too_long_is_told_to_come_again(self):
        queue = filled(queue_of(1, wait_s_max=0.01))
        with pytest.raises(ModelBusy) as caught:
            await queue.wait(ONE, left_s=60.0)
        assert caught.value.retry_after_s >= 1
        assert (queue.running, queue.waiting) == (2, 0)

    async def test_nobody_waits_beyond_its_deadline(self):
        queue = filled(queue_of(1, wait_s_max=60.0))
        with pytest.raises(ModelBusy):
            await asyncio.wait_for(queue.wait(ONE, left_s=0.01), 5)

    async def test_who_would_wait_too_long_is_told_at_once_how_long(self):
        time = Time()
        queue = filled(queue_of(4, time, wait_s_max=60.0, waiting_min=1_000))
        queue.leave(began_at=time.now - 20.0)
        queue.enter()
        waiters = [await waiting(queue) for _ in range(9)]
        with pytest.raises(ModelBusy) as caught:
            await queue.wait(ONE, left_s=39.9)
        assert caught.value.retry_after_s == 40  # The tenth, at 20 s each, five at a time.
        queue.resize(slots=0, busy=0)
        await asyncio.gather(*waiters)

    async def test_the_wait_that_is_told_has_an_end(self):
        time = Time()
        queue = filled(queue_of(1, time))
        queue.leave(began_at=time.now - 10_000.0)
        queue.enter()
        with pytest.raises(ModelBusy) as caught:
            await queue.wait(ONE, left_s=60.0)
        assert caught.value.retry_after_s == RETRY_AFTER_S_MAX

    async def test_a_standing_queue_keeps_nobody_for_long(self):
        """At half a second each: three wait gladly behind a burst, and only one of them behind a queue that stands."""
        time = Time()
        queue = filled(queue_of(1, time, wait_s_max=5.0))
        queue.leave(began_at=time.now - 0.9)
        queue.enter()
        waiters = [await waiting(queue)]
        waiters.append(await waiting(queue))
        time.now += STANDING_AFTER_S + 0.1
        with pytest.raises(ModelBusy):
            await queue.wait(ONE, left_s=60.0)
        queue.resize(slots=0, busy=0)
        await asyncio.gather(*waiters)

    async def test_a_queue_that_was_empty_stands_no_more(self):
        time = Time()
        queue = filled(queue_of(1, time, wait_s_max=5.0))
        queue.leave(began_at=time.now - 0.9)
        queue.enter()
        first = await waiting(queue)
        time.now += STANDING_AFTER_S + 0.1
        queue.leave(began_at=time.now - 0.9)
        await first
        waiters = [await waiting(queue), await waiting(queue)]
        assert queue.waiting == 2
        queue.resize(slots=0, busy=0)
        await asyncio.gather(*waiters)

    async def test_one_organization_has_half_of_the_queue(self):
        queue = filled(queue_of(1, waiting_min=4, waiting_per_slot=1))
        waiters = [await waiting(queue, ONE), await waiting(queue, ONE)]
        with pytest.raises(ModelBusy):
            await queue.wait(ONE, left_s=60.0)
        waiters += [await waiting(queue, TWO), await waiting(queue, TWO)]
        with pytest.raises(ModelBusy):
            await queue.wait(UUID(int=3), left_s=60.0)
        queue.resize(slots=0, busy=0)
        await asyncio.gather(*waiters)


class TestLimit:
    def test_it_shrinks_once_a_second_when_endpoints_refuse(self):
        time = Time()
        queue = filled(queue_of(80, time))
        queue.shrink()
        queue.shrink()
        assert queue.limit == 80.0
        time.now += 1.0
        queue.shrink()
        assert queue.limit == 64.0

    def test_it_comes_back_step_by_step(self):
        time = Time()
        queue = filled(queue_of(16, time))
        queue.shrink()
        low = queue.limit
        queue.resize(slots=16, busy=0)
        assert low < queue.limit < 20.0
        for _ in range(20):
            queue.resize(slots=16, busy=0)
        assert queue.limit == 20.0

    def test_two_gateways_end_with_equal_shares(self):
        """One has everything when the other comes; both only see how much is asked of the endpoints together."""
        time = Time()
        first, second = queue_of(64, time), queue_of(64, time)
        filled(first)
        shares, together = [], []
        for _ in range(400):
            time.now += 1.0
            asked = sum(min(each.limit, 10_000) for each in (first, second))
            for queue in (first, second):
                queue.running = int(queue.limit)
                queue.resize(slots=64, busy=int(asked))
            together.append(first.limit + second.limit)
            shares.append(first.limit / together[-1])
        assert 0.4 < sum(shares[-100:]) / 100 < 0.6
        assert sum(together[-100:]) / 100 < 1.25 * 64 * HEADROOM

    def test_alone_it_never_takes_its_own_requests_for_others(self):
        time = Time()
        queue = filled(queue_of(8, time))
        for _ in range(10):
            time.now += 1.0
            queue.resize(slots=8, busy=queue.running)
        assert queue.limit == 10.0
