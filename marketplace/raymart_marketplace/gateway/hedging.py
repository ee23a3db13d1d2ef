"""A second endpoint for a request whose first one is late, if its customer asks for that: whoever begins first serves.

Invariants:
- Of two that were asked one serves, and only that one is billed and earns. The other is stopped at once and recorded as
  cancelled, with nobody to blame; its breaker and its figures hear nothing of it.
- Only before the first step, once a request, and within its plan: the hold was made for the dearest endpoint of that.
- Whatever ends the race, nobody who was asked keeps a slot, a connection or a timer.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, MutableSequence

import structlog

from raymart_core.units import Fault
from raymart_core.wire.replica import StepEvent
from raymart_marketplace.gateway.attempt import Attempt
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.hedge import Hedge, hedge_after_s
from raymart_marketplace.gateway.life import RequestLife
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.settlement import Settlement
from raymart_marketplace.routing.route import Offered
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

log = structlog.get_logger(__name__)

BEATEN = "another endpoint began first"
ABANDONED = "the request ended before an endpoint began"

Places = Iterator[tuple[LiveEndpoint, Offered | None]]
"""Where the request may still go, and where after that (`candidates.turns`)."""


class Hedging:
    """Asks second endpoints. One per process."""

    def __init__(self, *, directory: EndpointDirectory, settlement: Settlement, entrance: Entrance) -> None:
        self._directory = directory
        self._settlement = settlement
        self._entrance = entrance
        self.outcomes: Counter[Hedge] = Counter()
        """What became of the wish, each time a request that has it was sent to an endpoint."""

    async def begin(
        self,
        life: RequestLife,
        *,
        spare: Offered | None,
        places: Places,
        failures: MutableSequence[AttemptFailed],
    ) -> StepEvent | None:
        """Send the request to `life.attempt`, and to the next of `places`, which is `spare`, if that one is late.

        Returns the first step of whoever has one first, who is `life.attempt` from then on; None when it ended well
        without one. Raises: AttemptFailed of `life.attempt` when nobody is left; of two that failed the first is settled
        and in `failures`.
        """
        first = life.attempt
        assert first is not None
        race = _Race(life, self._settlement, self._entrance)
        try:
            race.enter(first)
            late_s = hedge_after_s(first.endpoint, tokens_prompt_max=life.needs.tokens_prompt_max)
            if not await race.has_news(within_s=late_s):
                rival = self._rival(life, spare, places)
                if rival is not None:
                    race.enter(rival)
            return await race.first_step(failures)
        finally:
            race.end()
            self.outcomes[life.hedge] += 1

    def _rival(self, life: RequestLife, spare: Offered | None, places: Places) -> Attempt | None:
        """The second attempt, or none, and why, in `life.hedge`."""
        life.hedge = self._verdict(life, spare)
        if life.hedge is not Hedge.ASKED:
            return None
        endpoint, after = next(places)
        lease = self._directory.acquire(endpoint.id)
        if lease is None:  # It left, or its provider filled up, since it was chosen.
            life.hedge = Hedge.NO_ROOM
            return None
        log.info("request.hedged", request_id=life.public_id, endpoint_id=str(endpoint.id))
        return life.rival(endpoint, lease, spare=after)

    def _verdict(self, life: RequestLife, spare: Offered | None) -> Hedge:
        if spare is None or spare.running >= spare.capacity or spare.quarantined:
            return Hedge.NO_ROOM
        if life.patience.left_s() <= (spare.first_token_ms or 0.0) / 1000:
            return Hedge.NO_TIME
        return Hedge.ASKED if self._entrance.may_hedge() else Hedge.NO_BUDGET


class _Race:
    """Who works on a request before its first step: one endpoint, or two."""

    def __init__(self, life: RequestLife, settlement: Settlement, entrance: Entrance) -> None:
        self._life = life
        self._settlement = settlement
        self._entrance = entrance
        self._first = life.attempt
        self._asked: dict[asyncio.Task[StepEvent | None], Attempt] = {}
        """In the order in which they were asked."""

    def enter(self, attempt: Attempt) -> None:
        """Send the request to its endpoint."""
        beginning = attempt.begin(self._life.body_for(attempt.endpoint), request_id=self._life.public_id)
        self._asked[asyncio.create_task(beginning, name="hedging")] = attempt

    async def has_news(self, *, within_s: float | None = None) -> bool:
        """Wait until one has begun or failed; False when that takes longer than `within_s`."""
        done, _ = await asyncio.wait(self._asked, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def first_step(self, failures: MutableSequence[AttemptFailed]) -> StepEvent | None:
        """As `Hedging.begin`."""
        while True:
            await self.has_news()
            # Of two at once, who was asked first.
            task = next(each for each in self._asked if each.done())
            try:
                step = task.result()
            except AttemptFailed as failure:
                if len(self._asked) == 1:
                    self._asked.clear()
                    raise
                self._failed(task, failure)
                failures.append(failure)
            else:
                self._won(task)
                return step

    def end(self) -> None:
        """Stop whoever is still at it, because the client left or we have a bug; who is `life.attempt` is noted by its owner."""
        for task, attempt in self._asked.items():
            if attempt is not self._life.attempt:
                self._put_aside(attempt, ABANDONED)
            self._stop(task, attempt)
        self._asked.clear()

    def _won(self, task: asyncio.Task[StepEvent | None]) -> None:
        winner = self._asked.pop(task)
        if self._life.hedge is Hedge.ASKED:
            self._life.hedge = Hedge.LOST if winner is self._first else Hedge.WON
        self._go_on(winner)
        for beaten, loser in self._asked.items():
            self._put_aside(loser, BEATEN)
            self._stop(beaten, loser)
        self._asked.clear()

    def _failed(self, task: asyncio.Task[StepEvent | None], failure: AttemptFailed) -> None:
        """The other one goes on alone."""
        attempt = self._asked.pop(task)
        self._life.put_aside(attempt, "failed", fault=failure.fault, reason=failure.reason)
        self._settlement.blame(attempt, failure)
        self._entrance.failed(self._life, failure)
        self._stop(task, attempt)
        [other] = self._asked.values()
        self._go_on(other)

    def _go_on(self, attempt: Attempt) -> None:
        self._life.attempt, self._life.patience = attempt, attempt.patience

    def _put_aside(self, attempt: Attempt, reason: str) -> None:
        self._life.put_aside(attempt, "cancelled", fault=Fault.NONE, reason=reason)

    def _stop(self, task: asyncio.Task[StepEvent | None], attempt: Attempt) -> None:
        task.cancel()
        # A link that hangs takes its time to close, and the customer waits.
        self._settlement.later(_closed(task, attempt))


async def _closed(task: asyncio.Task[StepEvent | None], attempt: Attempt) -> None:
    await asyncio.wait((task,))  # Until it has let go of its connection.
    if not task.cancelled():
        task.exception()  # Looked at, or asyncio would complain that nobody has.
    await attempt.close()
    attempt.patience.close()
