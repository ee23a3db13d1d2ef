"""Batches of what gathered while the last batch was worked on."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Generic, TypeVar

from raymart_billing.connections import end_if_cancelled

T = TypeVar("T")

SHARED_MIN = 2
"""Records in a batch that show that others come all the time, so that it pays to wait for them."""


class Gathering(Generic[T]):
    """A bounded queue with one reader, who takes all that is there.

    A batch costs the same statement however many share it. So where several do, the next begins no sooner than
    `pace_each_s` for each of them after it did, and at most `pace_s`; who comes alone waits for nothing.
    """

    def __init__(
        self,
        *,
        items_max: int,
        batch_max: int,
        pace_s: float,
        pace_each_s: float = inf,
        records_in: Callable[[T], int] | None = None,
    ) -> None:
        """`records_in`: how many records an item is; one each without it."""
        self._items_max = items_max
        self._batch_max = batch_max
        self._pace_s = pace_s
        self._pace_each_s = pace_each_s
        self._records_in = records_in
        self._items: deque[T] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._not_before = 0.0
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """What waits, oldest first."""
        return iter(self._items)

    def put(self, item: T) -> bool:
        """Whether there was room for `item`."""
        if len(self._items) >= self._items_max:
            return False
        self._items.append(item)
        if self._reader is not None:
            self._wake()
        return True

    def close(self) -> None:
        """Let the reader take what is here, and then nothing more."""
        self._is_closed = True
        self._wake()

    async def batch(self) -> Sequence[T]:
        """Wait for an item and take all, up to `batch_max`; empty once this is closed and empty."""
        end_if_cancelled()
        loop = asyncio.get_running_loop()
        while not self._items and not self._is_closed:
            self._reader = loop.create_future()
            await self._reader
        pause_s = self._not_before - loop.time()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        taken = self.take(self._batch_max)
        records = len(taken) if self._records_in is None else sum(map(self._records_in, taken))
        is_shared = records >= SHARED_MIN
        self._not_before = loop.time() + min(self._pace_s, records * self._pace_each_s) if is_shared else 0.0
        return taken

    def take(self, items_max: int) -> Sequence[T]:
        """The oldest, at most `items_max`, without waiting."""
        if len(self._items) <= items_max:
            taken = list(self._items)
            self._items.clear()
            return taken
        return [self._items.popleft() for _ in range(items_max)]

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)
