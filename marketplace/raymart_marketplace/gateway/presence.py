"""Whether the client is still there, watched while its answer is made."""

import asyncio
from typing import Self

from starlette.types import Receive


class Presence:
    """Cancels the task that answers when the client leaves, or when it takes too long to read.

    Use as `async with`: a cancellation that came from here ends the block quietly, any other goes on. Call `dismiss`
    before the last bytes are sent, because servers report the end of a response as a disconnect too.
    """

    def __init__(self, receive: Receive, *, limit_s: float) -> None:
        """Give up on a client that has not read its answer after `limit_s` seconds."""
        self._receive = receive
        self._limit_s = limit_s
        self._left = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._answering = task
        self._timer = loop.call_later(self._limit_s, self._give_up)
        self._watch = loop.create_task(self._wait_for_disconnect())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.dismiss()
        self._timer.cancel()
        if self._left and kind is not None and issubclass(kind, asyncio.CancelledError):
            # Anybody else's cancellation counts for itself and must not be swallowed.
            return self._answering.uncancel() == 0
        return False

    def dismiss(self) -> None:
        """Stop watching for a disconnect; the time limit stays."""
        self._watch.cancel()

    async def _wait_for_disconnect(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass  # A body that goes on after it was read is nobody's.
        except asyncio.CancelledError:
            # Its traceback holds this object, which holds the task, which would hold the error: a circle of thirty
            # objects that every request would leave to the garbage collector.
            return
        self._give_up()

    def _give_up(self) -> None:
        if not self._left:
            self._left = True
            self._answering.cancel()
