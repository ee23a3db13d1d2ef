"""The way from an engine's blocking callback thread to the event loop: bounded, with back-pressure."""

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar

from raymart_core.errors import RaymartError

Item = TypeVar("Item")


class ChannelClosed(RaymartError):
    """Nothing more will come: the engine closed the channel under its reader."""


class StepChannel(Generic[Item]):
    """One thread writes, one coroutine reads.

    A full channel blocks the writer until the reader takes something or closes. `close` wakes a blocked writer, so
    cancelling the reader can never leave the thread behind: it gets False and ends its work at the engine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, size_max: int) -> None:
        assert size_max >= 1
        self._loop = loop
        self._size_max = size_max
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._readable = asyncio.Event()
        self._closed = False

    def put(self, item: Item) -> bool:
        """Called by the thread: hand `item` on, waiting for room; False when the reader has left."""
        with self._changed:
            while len(self._items) >= self._size_max and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            return len(self._items) > 1 or self._wake_reader()

    def pause(self, seconds: float) -> bool:
        """Called by the thread: wait `seconds`; False at once when the reader leaves."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closed, timeout=seconds)

    async def get(self) -> Item:
        """Called on the loop: the next item, in order. Raises: ChannelClosed after `close`."""
        while True:
            with self._changed:
                if self._closed:
                    raise ChannelClosed("the channel was closed while it was read")
                if self._items:
                    self._changed.notify()
                    return self._items.popleft()
                self._readable.clear()
            await self._readable.wait()

    def get_nowait(self) -> Item | None:
        """Called on the loop: the next item if there is one already, else None, also after `close`."""
        with self._changed:
            if not self._items:
                return None
            self._changed.notify()
            return self._items.popleft()

    def close(self) -> None:
        """Called on the loop: the reader leaves, or is told to. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        self._readable.set()

    def _wake_reader(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._readable.set)
        except RuntimeError:  # the loop is closed: nobody will ever read
            self._closed = True
            return False
        return True
