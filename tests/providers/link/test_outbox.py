import asyncio

import pytest

from raymart_core.wire.bundle import unpack_message
from raymart_core.wire.link import FrameType, pack_frame
from raymart_providers.link.outbox import LinkStalled, Outbox

FRAMES = [pack_frame(FrameType.DATA, stream_id, b"x") for stream_id in range(1, 4)]


async def written(outbox):
    """Every message that the outbox writes of what is queued now."""
    messages = []

    async def write(message):
        messages.append(message)

    writer = asyncio.create_task(outbox.run(write))
    await outbox.flushed()
    writer.cancel()
    return messages


class TestOutbox:
    async def test_what_is_ready_together_shares_a_message_where_the_marketplace_takes_that(self):
        outbox = Outbox(bundles=True)
        for frame in FRAMES:
            outbox.data(frame)
        (message,) = await written(outbox)
        assert [stream_id for _, stream_id, _ in unpack_message(message)] == [1, 2, 3]

    async def test_elsewhere_each_frame_is_a_message(self):
        outbox = Outbox()
        for frame in FRAMES:
            outbox.data(frame)
        assert await written(outbox) == FRAMES

    async def test_what_is_queued_after_a_flush_makes_it_unflushed_at_once(self):
        outbox = Outbox(bundles=True)
        outbox.data(FRAMES[0])
        release, messages = asyncio.Event(), []

        async def write(message):
            messages.append(message)
            if len(messages) == 1:
                outbox.data(FRAMES[1])
            await release.wait()

        writer = asyncio.create_task(outbox.run(write))
        release.set()
        await outbox.flushed()
        outbox.data(FRAMES[2])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await outbox.flushed()
        await outbox.flushed()
        writer.cancel()
        assert messages == FRAMES

    async def test_a_producer_is_called_back_when_a_bundle_has_made_room(self):
        outbox, called = Outbox(bundles=True), asyncio.Event()
        while outbox.has_room:
            outbox.data(pack_frame(FrameType.DATA, 1, bytes(60_000)))
        outbox.when_room(called.set)
        await written(outbox)
        assert called.is_set()

    async def test_control_that_nobody_takes_stalls_the_link(self):
        outbox = Outbox(bundles=True)
        for _ in range(5_000):
            outbox.frame(FRAMES[0])

        async def write(message):
            pass

        with pytest.raises(LinkStalled):
            await outbox.run(write)
