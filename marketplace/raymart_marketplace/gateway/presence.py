"""Whether the client is still there, watched while its answer is made."""

import asyncio
from typing import Self

from starlette.types import Scope

from raymart_marketplace.gateway.http_server.exchange import ON_LEAVE


class Presence:
    """Cancels the task that answers when the client leaves, or when it takes too long to read.

    Use as `async with`: a cancellation that came from here ends the block quietly, any other goes on. Call `dismiss`
    before the last bytes are sent: who leaves with those has had its answer. Needs our own server, which says at once
    who leaves.
    """

    def __init__(self, scope: Scope, *, limit_s: float) -> None:
        """Give up on a client that has not read its answer after `limit_s` seconds."""
        self._tell_when_it_leaves = scope["extensions"][ON_LEAVE]
        self._limit_s = limit_s
        self._left = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._answering = task
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._give_up)
        self._tell_when_it_leaves(self._give_up)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.dismiss()
        self._timer.cancel()
        if self._left and kind is not None and issubclass(kind, asyncio.CancelledError):
            # Anybody else's cancellation counts for itself and must not be swallowed.
            return self._answering.uncancel() == 0
        return False

    def dismiss(self) -> None:
        """Stop watching for who leaves; the time limit stays."""
        self._tell_when_it_leaves(None)

    def _give_up(self) -> None:
        if not self._left:
            self._left = True
            self._answering.cancel()
