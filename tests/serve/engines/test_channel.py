import asyncio
import threading
import time

import pytest

from raymart_serve.engines.channel import ChannelClosed, StepChannel


class TestStepChannel:
    async def test_items_arrive_in_order(self) -> None:
        channel: StepChannel[int] = StepChannel(asyncio.get_running_loop(), size_max=3)
        writer = asyncio.to_thread(lambda: [channel.put(number) for number in range(100)])
        task = asyncio.create_task(writer)
        assert [await channel.get() for _ in range(100)] == list(range(100))
        assert all(await task)

    async def test_a_full_channel_holds_the_writer_until_there_is_room(self) -> None:
        channel: StepChannel[int] = StepChannel(asyncio.get_running_loop(), size_max=2)
        done = threading.Event()

        def write() -> None:
            for number in range(3):
                channel.put(number)
            done.set()

        task = asyncio.create_task(asyncio.to_thread(write))
        await asyncio.sleep(0.05)
        assert not done.is_set()
        assert await channel.get() == 0
        await task
        assert done.is_set()

    async def test_closing_wakes_a_waiting_writer_with_false(self) -> None:
        channel: StepChannel[int] = StepChannel(asyncio.get_running_loop(), size_max=1)
        task = asyncio.create_task(asyncio.to_thread(lambda: [channel.put(1), channel.put(2)]))
        await asyncio.sleep(0.05)
        channel.close()
        assert await asyncio.wait_for(task, 1) == [True, False]
        assert channel.put(3) is False

    async def test_closing_wakes_a_waiting_reader(self) -> None:
        channel: StepChannel[int] = StepChannel(asyncio.get_running_loop(), size_max=1)
        task = asyncio.create_task(channel.get())
        await asyncio.sleep(0)
        channel.close()
        with pytest.raises(ChannelClosed):
            await asyncio.wait_for(task, 1)

    async def test_a_pause_ends_early_when_the_reader_leaves(self) -> None:
        channel: StepChannel[int] = StepChannel(asyncio.get_running_loop(), size_max=1)
        started = time.monotonic()
        task = asyncio.create_task(asyncio.to_thread(channel.pause, 30.0))
        await asyncio.sleep(0.02)
        channel.close()
        assert await task is False
        assert time.monotonic() - started < 5
        assert await asyncio.to_thread(StepChannel(asyncio.get_running_loop(), size_max=1).pause, 0.01)

    def test_a_closed_loop_is_a_reader_that_left(self) -> None:
        loop = asyncio.new_event_loop()

        async def make() -> StepChannel[int]:
            return StepChannel(loop, size_max=1)

        channel = loop.run_until_complete(make())
        loop.close()
        assert channel.put(1) is False
