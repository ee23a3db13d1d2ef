"""What an agent does beside its replicas, over the same link: keep a pool's placements, run Ray, measure, tell."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from raymart_core.wire.link import Control, Welcome
from raymart_providers.link.outbox import Outbox


class Duty(Protocol):
    """One thing that an agent does. Everything but `run` is called from the link and must not wait."""

    async def run(self) -> None:
        """The duty's own work, as long as the agent runs; cancelled at its end. An exception ends the agent."""

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """The link is live; `outbox` is good until `down`."""

    def take(self, message: Control) -> bool:
        """A control message from the marketplace: False when it is another duty's."""

    def heartbeat(self) -> None:
        """A heartbeat has been sent; what belongs to it may follow."""

    def down(self) -> None:
        """The link is gone."""


class Running(Protocol):
    """The part of a duty that runs."""

    async def run(self) -> None:
        """Until cancelled."""


async def run_beside(serving: Coroutine[Any, Any, None], duties: Sequence[Running]) -> None:
    """Run `serving` to its end with the duties beside it, then cancel them and wait for their ends.

    Raises: what `serving` raises, or the first duty that fails.
    """
    served = asyncio.ensure_future(serving)
    tasks = [served, *(asyncio.ensure_future(duty.run()) for duty in duties)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        assert served.done(), "a duty ends only when it is cancelled"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
