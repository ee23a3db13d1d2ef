"""What waits to be written on one link, and the task that writes it: control frames before data."""

import asyncio
from collections import deque

from raymart_core.wire.flow import FrameQueue
from raymart_core.wire.link import Control
from raymart_marketplace.supply.link.socket import LinkSocket, control_frame


class Outbox:
    """The only writer of a live link. Control never waits; data waits while the queue is full."""

    def __init__(self, socket: LinkSocket, *, bundles: bool) -> None:
        """`bundles` says whether the peer takes several frames in one message."""
        self._socket = socket
        self._queue = FrameQueue()
        self._next_message = self._queue.pop_message if bundles else self._queue.pop
        self._filled = asyncio.Event()
        self._room_waiters: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._write_began_at: float | None = None
        self.overflowed = False
        """Whether control frames were lost because thousands wait; the link is of no use any more."""

    @property
    def stalled_s(self) -> float:
        """How long the present write has been waiting for the peer to read."""
        return 0.0 if self._write_began_at is None else self._loop.time() - self._write_began_at

    def control(self, message: Control) -> None:
        """Queue a control message."""
        self.frame(control_frame(message))

    def frame(self, frame: bytes) -> None:
        """Queue a frame ahead of all data."""
        if not self._queue.push_control(frame):
            self.overflowed = True
        self._filled.set()

    def push(self, frame: bytes) -> bool:
        """Queue a data frame if there is room for it now; False when there is none."""
        if not self._queue.has_room:
            return False
        self._queue.push_data(frame)
        self._filled.set()
        return True

    async def data(self, frame: bytes) -> None:
        """Queue a data frame when there is room for it. The caller bounds the wait."""
        while not self._queue.has_room:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._room_waiters.append(waiter)
            await waiter
        self._queue.push_data(frame)
        self._filled.set()

    async def run(self) -> None:
        """Write until cancelled. Raises: LinkClosed."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (message := self._next_message()) is not None:
                # A time kept here and looked at by the watchdog is cheaper than a timeout around each frame.
                self._write_began_at = self._loop.time()
                await self._socket.write(message)
                self._write_began_at = None
                if self._room_waiters and self._queue.has_room:
                    self._wake_producers()

    def _wake_producers(self) -> None:
        # All of them: one that was cancelled meanwhile would swallow a single wake-up and leave the rest asleep.
        while self._room_waiters:
            waiter = self._room_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
