"""A client that leaves, and what is left behind of one that stays."""

import asyncio
import gc

import pytest

from raymart_marketplace.gateway.presence import Presence


async def body_then_nothing(first={"type": "http.request", "more_body": False}):  # noqa: B006 - never written
    await asyncio.Event().wait()
    return first


class TestPresence:
    async def test_a_client_that_leaves_cancels_the_answer_quietly(self):
        async def receive():
            return {"type": "http.disconnect"}

        reached_the_end = False
        async with Presence(receive, limit_s=60):
            await asyncio.Event().wait()
            reached_the_end = True
        assert not reached_the_end

    async def test_somebody_elses_cancellation_goes_on(self):
        async def answer():
            async with Presence(body_then_nothing, limit_s=60):
                await asyncio.Event().wait()

        answering = asyncio.create_task(answer())
        await asyncio.sleep(0)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering

    async def test_an_answer_leaves_no_garbage_behind(self):
        """What is in a circle stays until the collector comes, with the whole request in it."""

        async def answer():
            async with Presence(body_then_nothing, limit_s=60):
                await asyncio.sleep(0)

        await answer()  # Whatever is made once is made now.
        await asyncio.sleep(0)
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await answer()
            await asyncio.sleep(0)
            assert gc.collect() == 0
        finally:
            gc.enable()
