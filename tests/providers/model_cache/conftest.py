import asyncio
import contextlib

import pytest

from raymart_core.wire.link import ArtifactAsk, decode_control, unpack_frame
from raymart_providers.link.outbox import Outbox
from raymart_providers.model_cache import ModelHost
from raymart_serve.models.fetch import FetchLimits
from support.range_server import range_server

LIMITS = FetchLimits(piece_bytes=64 * 1024, timeout_s=2, backoff_first_s=0.001, backoff_longest_s=0.002)


class Marketplace:
    """The other end of a link, as far as weights go. `answer` makes the answer to an ask, or None for none."""

    def __init__(self):
        self.asks = []
        self.answer = lambda ask: None
        self._tasks = []

    def connect(self, host):
        """Give `host` a link."""
        outbox = Outbox()

        async def write(frame):
            message = decode_control(unpack_frame(frame)[2])
            assert isinstance(message, ArtifactAsk)
            self.asks.append(message)
            if (answer := self.answer(message)) is not None:
                host.take(answer)

        self._tasks.append(asyncio.create_task(outbox.run(write)))
        host.up(outbox)
        return outbox

    async def close(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
def origin():
    with range_server() as server:
        yield server


@pytest.fixture
async def marketplace():
    marketplace = Marketplace()
    yield marketplace
    await marketplace.close()


@pytest.fixture
async def make_host(tmp_path):
    """Starts model hosts, each with a folder of its own unless one is named."""
    async with contextlib.AsyncExitStack() as hosts:
        count = 0

        async def make(**changes):
            nonlocal count
            count += 1
            changes.setdefault("on_change", lambda: None)
            values = {"quota_bytes": 1 << 30, "plaintext": True, "limits": LIMITS, **changes}
            host = ModelHost(values.pop("folder", tmp_path / f"models-{count}"), **values)
            await host.start()
            hosts.push_async_callback(host.close)
            return host

        yield make
