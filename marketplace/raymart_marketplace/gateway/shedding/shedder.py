"""Who may start now, by model: as many as its live endpoints have slots for, and a little more.

It is asked before anything is routed or held, so that refusing one costs a tenth of serving one. What it knows of a model is
looked up again every quarter of a second, or more seldom where a model has thousands of endpoints.
"""

import asyncio
from uuid import UUID

from raymart_marketplace.gateway.shedding.queue import ModelQueue, QueueLimits
from raymart_marketplace.supply.live import EndpointDirectory

LOOK_EVERY_S = 0.25
LOOK_SHARE = 50
"""Looking takes at most 1/50 of the time."""


class Turn:
    """The right to run one request. `leave` when it is over, whatever became of it; a second time does nothing."""

    __slots__ = ("_began_at", "_queue")

    def __init__(self, queue: ModelQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._queue: ModelQueue | None = queue
        self._began_at = loop.time()

    def leave(self) -> None:
        """Let the next one run."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.leave(began_at=self._began_at)

    def refused(self) -> None:
        """An endpoint had no room after all: fewer may run at once."""
        if self._queue is not None:
            self._queue.shrink()


class LoadShedder:
    """One per process. Made without a running loop; used in one."""

    def __init__(self, directory: EndpointDirectory, *, limits: QueueLimits | None = None) -> None:
        self._directory = directory
        self._limits = limits or QueueLimits()
        self._queues: dict[str, ModelQueue] = {}
        self._ticking: asyncio.TimerHandle | None = None

    async def enter(self, slug: str, organization_id: UUID, *, left_s: float) -> Turn | None:
        """Wait for a turn, `left_s` at most; None for a model that nothing serves, of which routing knows what to say.

        Raises: ModelBusy.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(slug)
        if queue is None or loop.time() >= queue.limit_until:
            queue = self._looked_up(slug, loop)
            if queue is None:
                return None
        if not queue.enter():
            self._tick_later(loop)
            await queue.wait(organization_id, left_s=left_s)
        return Turn(queue, loop)

    def running(self, slug: str) -> int:
        """Requests for the model that run in this process."""
        queue = self._queues.get(slug)
        return 0 if queue is None else queue.running

    def waiting(self, slug: str) -> int:
        """Those that wait for their turn."""
        queue = self._queues.get(slug)
        return 0 if queue is None else queue.waiting

    def _looked_up(self, slug: str, loop: asyncio.AbstractEventLoop) -> ModelQueue | None:
        began_at = loop.time()
        slots, busy = self._slots(slug)
        queue = self._queues.get(slug)
        if not slots and (queue is None or queue.is_idle):
            self._queues.pop(slug, None)
            return None
        if queue is None:
            queue = self._queues[slug] = ModelQueue(slug, self._limits, loop)
        queue.resize(slots=slots, busy=busy)
        now = loop.time()
        queue.limit_until = now + max(LOOK_EVERY_S, LOOK_SHARE * (now - began_at))
        return queue

    def _slots(self, slug: str) -> tuple[int, int]:
        """(slots, requests on them) of the model's endpoints; of those that rest only where all do."""
        sound = busy = resting = 0
        for row in self._directory.market(slug) or ():
            if row.quarantined:
                resting += row.capacity
            else:
                sound += row.capacity
                busy += row.running
        return sound or resting, busy

    def _tick_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._ticking is None:
            self._ticking = loop.call_later(LOOK_EVERY_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again for those that wait: endpoints may come while no request does."""
        self._ticking = None
        for slug, queue in tuple(self._queues.items()):
            if queue.waiting:
                if loop.time() >= queue.limit_until:
                    self._looked_up(slug, loop)
                self._tick_later(loop)
