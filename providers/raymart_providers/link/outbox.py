"""What waits to be written on one link, and the task that writes it: control frames before data."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from raymart_core.wire.flow import FrameQueue
from raymart_core.wire.link import Control, FrameType, encode, pack_frame


class LinkStalled(Exception):
    """The marketplace has stopped reading: thousands of control frames wait for it."""


class Outbox:
    """The only writer of a live link. Never waits: a producer of data asks `has_room` and is called back for room."""

    def __init__(self, *, bundles: bool = False) -> None:
        """`bundles` says whether the marketplace takes several frames in one message."""
        self._queue = FrameQueue()
        self._next_message = self._queue.pop_message if bundles else self._queue.pop
        self._filled = asyncio.Event()
        self._room_callbacks: deque[Callable[[], None]] = deque()
        self._overflowed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def has_room(self) -> bool:
        """Whether another data frame is welcome."""
        return self._queue.has_room

    def control(self, message: Control) -> None:
        """Queue a control message."""
        self.frame(pack_frame(FrameType.CONTROL, 0, encode(message)))

    def frame(self, frame: bytes) -> None:
        """Queue a frame ahead of all data."""
        if not self._queue.push_control(frame):
            self._overflowed = True
        self._note_filled()

    def data(self, frame: bytes) -> None:
        """Queue a frame behind the data that is already there."""
        self._queue.push_data(frame)
        self._note_filled()

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when there is room again."""
        self._room_callbacks.append(callback)

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write until cancelled or until `write` raises. Raises: LinkStalled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (message := self._next_message()) is not None:
                if self._overflowed:
                    raise LinkStalled
                await write(message)
                while self._room_callbacks and self._queue.has_room:
                    self._room_callbacks.popleft()()
            self._empty.set()

    async def flushed(self) -> None:
        """Return when everything has been handed to the socket. The caller bounds the wait."""
        await self._empty.wait()

    def _note_filled(self) -> None:
        if self._empty.is_set():
            self._empty.clear()
        if not self._filled.is_set():
            self._filled.set()
