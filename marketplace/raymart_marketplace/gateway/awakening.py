"""Requests for a model that sleeps wait here until it is up, for a bounded time, holding no money.

The wait comes before the hold and before any attempt, so nothing of it can be billed: usage is counted from what an
endpoint delivers. It is inside the request's own deadline. What is waited for is told to the demand board; who wakes
placements reads it there.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Protocol

import structlog
from msgspec import structs
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import NoEndpoint
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.deadline import Patience
from raymart_marketplace.gateway.route_plan import RoutePlan
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.routing.ranking import rank_key
from raymart_marketplace.routing.route import Needs, verdict
from raymart_marketplace.routing.toss import NO_CHANCE
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.planning.sleepers import SleepingPlace, sleeping_places

log = structlog.get_logger(__name__)

WAITING_MAX = 256
"""Requests for one model that wait in one process; one more is refused at once."""
PLACES_KEPT_S = 1.0
"""How long it is remembered which offers of a model sleep: one query a second for a name that nothing serves."""
MODELS_KEPT_MAX = 10_000
LOOK_EVERY_S = 0.05
NEXT_AFTER_S = 15.0
"""When the best offer is not up by then, the next one is woken too, and so on."""
_QUERY_TIMEOUT_S = 5.0
RETRY_AFTER_S = 10

Again = Callable[[], Awaitable[RoutePlan]]
"""Routes the request once more."""


class Awakening(Protocol):
    """Waits for what sleeps."""

    async def wait(
        self,
        plan: RoutePlan,
        again: Again,
        *,
        preference: RoutingPreference,
        needs: Needs,
        modalities: Collection[Modality],
        patience: Patience,
    ) -> RoutePlan:
        """`plan`, unless it goes nowhere and a sleeping placement could serve: then the first that goes somewhere.

        Raises: DeadlineExceeded, and what `again` raises.
        """


class NeverAsleep:
    """Where nothing sleeps. Implements `Awakening`."""

    async def wait(self, plan: RoutePlan, again: Again, **_: object) -> RoutePlan:
        """`plan`."""
        del again
        return plan


class MarketAwakening:
    """Wakes by way of the demand board. One per process."""

    def __init__(self, sessions: Sessions, board: DemandBoard, *, wake_timeout_s: float) -> None:
        """A request waits at most `wake_timeout_s`, and never beyond its deadline."""
        self._sessions = sessions
        self._board = board
        self._wake_timeout_s = wake_timeout_s
        self._waiting: Counter[str] = Counter()
        self._places: dict[str, tuple[float, Sequence[SleepingPlace]]] = {}
        self._querying = asyncio.Lock()

    async def wait(
        self,
        plan: RoutePlan,
        again: Again,
        *,
        preference: RoutingPreference,
        needs: Needs,
        modalities: Collection[Modality],
        patience: Patience,
    ) -> RoutePlan:
        """As promised by `Awakening.wait`."""
        self._board.asked(needs.model_slug)
        if not isinstance(plan.refusal, NoEndpoint):
            return plan
        places = [
            place
            for place in await self._sleeping(needs.model_slug)
            if place.modality in modalities
            and place.is_for(needs.organization_id)
            and verdict(place, preference, needs) is None
        ]
        if not places:
            return plan
        if self._waiting[needs.model_slug] >= WAITING_MAX:
            return _refused(
                plan, f"{needs.model_slug} is asleep, and {WAITING_MAX} requests wait for it already"
            )
        # Cheapest first, whatever else is wished: all gateways must wait for the same one.
        places.sort(key=rank_key(preference, needs, sort=Sort.PRICE, toss=NO_CHANCE))
        self._waiting[needs.model_slug] += 1
        try:
            return await self._woken(plan, again, places, patience)
        finally:
            self._waiting[needs.model_slug] -= 1
            if not self._waiting[needs.model_slug]:
                del self._waiting[needs.model_slug]

    async def _woken(
        self, plan: RoutePlan, again: Again, places: Sequence[SleepingPlace], patience: Patience
    ) -> RoutePlan:
        loop = asyncio.get_running_loop()
        began_at, asked = loop.time(), 0
        with ExitStack() as waits:
            while (waited_s := loop.time() - began_at) < self._wake_timeout_s:
                if asked < len(places) and waited_s >= asked * NEXT_AFTER_S:
                    waits.enter_context(self._board.waiting(places[asked].id))
                    asked += 1
                # Its limit is longer than the pause, so only the request's own deadline can end it.
                await patience.wait(_pause, limit_s=10 * LOOK_EVERY_S)
                plan = await again()
                if not isinstance(plan.refusal, NoEndpoint):
                    log.info("request.woke", model=places[0].model_slug, waited_ms=round(waited_s * 1_000))
                    return plan
        usual = [place.cold_start_ms for place in places if place.cold_start_ms is not None]
        hint = f"; its last start took {min(usual) / 1_000:.1f} s" if usual else ""
        return _refused(
            plan, f"{places[0].model_slug} is asleep and was not up within {self._wake_timeout_s:g} s{hint}"
        )

    async def _sleeping(self, slug: str) -> Sequence[SleepingPlace]:
        """The model's sleeping offers, at most `PLACES_KEPT_S` old; none while the database is away."""
        loop = asyncio.get_running_loop()
        async with self._querying:
            kept = self._places.get(slug)
            if kept is not None and loop.time() - kept[0] < PLACES_KEPT_S:
                return kept[1]
            try:
                async with asyncio.timeout(_QUERY_TIMEOUT_S), session_scope(self._sessions) as session:
                    found = await sleeping_places(session, slug)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("sleepers.unknown", reason=str(error)[:200])
                return ()
            if len(self._places) >= MODELS_KEPT_MAX:
                self._places.clear()
            self._places[slug] = loop.time(), found
            return found


async def _pause() -> None:
    await asyncio.sleep(LOOK_EVERY_S)


def _refused(plan: RoutePlan, message: str) -> RoutePlan:
    """`plan` with a refusal that says when to come again."""
    reasons = plan.refusal.reasons if isinstance(plan.refusal, NoEndpoint) else ()
    refusal = NoEndpoint(f"{message}; try again", reasons=(message, *reasons), retry_after_s=RETRY_AFTER_S)
    return structs.replace(plan, tried=(), refusal=refusal)


__all__: Sequence[str] = ("Awakening", "MarketAwakening", "NeverAsleep")
