"""A client that leaves, and what is left behind of one that stays."""

import asyncio
import gc

import pytest

from raymart_marketplace.gateway.http_server.exchange import ON_LEAVE
from raymart_marketplace.gateway.presence import Presence


class Client:
    """The server's part."""

    def __init__(self, *, has_left: bool = False) -> None:
        self.has_left = has_left
        self.callback = None
        self.scope = {"extensions": {ON_LEAVE: self.on_leave}}

    def on_leave(self, callback):
        self.callback = callback
        if callback is not None and self.has_left:
            callback()


class TestPresence:
    @pytest.mark.parametrize("has_left", [True, False])
    async def test_a_client_that_leaves_cancels_the_answer_quietly(self, has_left):
        client = Client(has_left=has_left)
        reached_the_end = False
        async with Presence(client.scope, limit_s=60):
            if not has_left:
                asyncio.get_running_loop().call_soon(client.callback)
            await asyncio.Event().wait()
            reached_the_end = True
        assert not reached_the_end
        assert asyncio.current_task().cancelling() == 0

    async def test_a_client_that_does_not_read_in_time_has_left(self):
        reached_the_end = False
        async with Presence(Client().scope, limit_s=0.01):
            await asyncio.Event().wait()
            reached_the_end = True
        assert not reached_the_end

    async def test_who_leaves_after_the_last_bytes_stops_nothing(self):
        client = Client()
        async with Presence(client.scope, limit_s=60) as presence:
            presence.dismiss()
            assert client.callback is None

    async def test_somebody_elses_cancellation_goes_on(self):
        async def answer():
            async with Presence(Client().scope, limit_s=60):
                await asyncio.Event().wait()

        answering = asyncio.create_task(answer())
        await asyncio.sleep(0)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering

    async def test_an_answer_leaves_no_garbage_behind(self):
        """What is in a circle stays until the collector comes, with the whole request in it."""
        scope = Client().scope

        async def answer():
            async with Presence(scope, limit_s=60):
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
