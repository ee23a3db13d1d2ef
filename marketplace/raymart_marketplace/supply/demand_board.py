"""What waits at this process, told to all others every second, and what waits anywhere, for who wakes placements.

Memory and Redis (`planning.demand`); without Redis this process still knows its own.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from uuid import UUID

from raymart_marketplace.supply.planning.demand import Demand, Demands

TELL_EVERY_S = 1.0
READ_KEPT_S = 0.5


class DemandBoard:
    """One per process. Counting is in memory and never waits; `start` begins to tell Redis."""

    def __init__(self, demands: Demands, *, gateway_id: str) -> None:
        """`gateway_id` tells this process from all others, also from itself before a restart."""
        self._demands = demands
        self._gateway_id = gateway_id
        self._waiting: Counter[UUID] = Counter()
        self._queued: dict[UUID, Mapping[str, int]] = {}
        self._asked: Counter[str] = Counter()
        self._listeners: set[Callable[[], None]] = set()
        self._news = asyncio.Event()
        self._told_any = False
        self._read = Demand()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell Redis."""
        self._task = asyncio.get_running_loop().create_task(self._tell_forever(), name="demand.tell")

    async def stop(self) -> None:
        """Stop; what was told ends by itself within seconds."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def asked(self, slug: str) -> None:
        """Count a request for the model."""
        self._asked[slug] += 1

    @contextlib.contextmanager
    def waiting(self, offer_id: UUID) -> Iterator[None]:
        """Around the wait of one request for a sleeping placement of the offer."""
        self._waiting[offer_id] += 1
        self._changed()
        try:
            yield
        finally:
            self._waiting[offer_id] -= 1
            if not self._waiting[offer_id]:
                del self._waiting[offer_id]

    def queued(self, node_id: UUID, by_revision: Mapping[str, int]) -> None:
        """Replace what waits in the queues of the node's replicas, by revision digest."""
        if by_revision:
            self._queued[node_id] = by_revision
        else:
            self._queued.pop(node_id, None)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when something begins to wait here; returns how to stop that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def read(self) -> Demand:
        """What waits anywhere, at most `READ_KEPT_S` old, and what waits here at this moment."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at >= READ_KEPT_S:
            self._read_at = now
            self._read = await self._demands.read()
        return Demand(
            waiting=_most(self._read.waiting, self._waiting_here()),
            queued=_most(self._read.queued, self._queued_here()),
            asked=self._read.asked,
        )

    def _changed(self) -> None:
        self._news.set()
        for listener in tuple(self._listeners):
            listener()

    def _waiting_here(self) -> Mapping[str, int]:
        return {offer_id.hex: count for offer_id, count in self._waiting.items()}

    def _queued_here(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for by_revision in self._queued.values():
            found.update(by_revision)
        return found

    async def _tell_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_EVERY_S):
                    await self._news.wait()
            self._news.clear()
            waiting, queued = self._waiting_here(), self._queued_here()
            if waiting or queued or self._told_any:
                self._told_any = bool(waiting or queued)
                await self._demands.tell(self._gateway_id, waiting=waiting, queued=queued)
            if self._asked:
                asked, self._asked = self._asked, Counter()
                if not await self._demands.count(asked):
                    self._asked.update(asked)
            # Requests that come together are told together.
            await asyncio.sleep(TELL_EVERY_S / 10)


def _most(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    """By key the larger of both: Redis may not have heard of what began a moment ago."""
    keys: Collection[str] = one.keys() | other.keys()
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in keys}
