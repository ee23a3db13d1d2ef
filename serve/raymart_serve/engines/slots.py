"""Slots of an engine that has no queue of its own: some run, a bounded number waits, one more is refused."""

import asyncio

from raymart_serve.engines.protocol import EngineBusy


class SlotGate:
    """A first-come, first-served semaphore that counts who waits. Used on one event loop."""

    def __init__(self, *, slots: int, waiting_max: int) -> None:
        assert slots >= 1
        assert waiting_max >= 0
        self._slots = slots
        self._waiting_max = waiting_max
        self._free = asyncio.Semaphore(slots)
        self._idle = asyncio.Event()
        self._idle.set()
        self.running = 0
        self.waiting = 0

    async def acquire(self) -> None:
        """Wait for a slot. Raises: EngineBusy at once when all slots and all places in the queue are taken."""
        if self._free.locked() and self.waiting >= self._waiting_max:
            raise EngineBusy(slots=self._slots, waiting_max=self._waiting_max)
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        self._idle.clear()

    def release(self) -> None:
        """Give the slot to whoever waits longest."""
        assert self.running > 0
        self.running -= 1
        self._free.release()
        if self.running == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no slot is taken."""
        await self._idle.wait()
