"""Makes a pool's Ray Serve run what the marketplace wants, and says what is true.

Applies when the wanted placements differ from what was applied, when Serve has lost one, or when the connection to
Ray is a fresh one. Works on through a lost link with the last wanted placements, and through a lost Ray with a
report that says so. Implements `duty.Duty`: beside a pool's head it is all that a process does (`controller`), on a
machine with a cluster of its own one of the agent's duties.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from raymart_core.wire.link import Control, Demand, Desired, Observed, Placement, Report, Welcome
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.outbox import Outbox
from raymart_providers.pool_process import PoolAway, PoolProcess
from raymart_providers.status import PlacementReport

log = structlog.get_logger()

_STARTING_INTERVAL_S = 0.25
"""How often the pool is looked at while replicas load: somebody may wait for them, and their start is timed."""
_DEMAND_REPEAT_S = 5.0
"""Demand is told again after this long; it ends by itself after three times that (`raymart_serve.autoscaling`)."""
_UNKNOWN_MAX = 64
"""Unknown applications in one report."""
_REAPPLY_S = 60.0
"""While a placement does not run, all are applied again this often: Serve does nothing for those it runs already.
Much longer than a start takes on a busy machine, for Serve begins anew with those that are still starting."""


class PlacementKeeper:
    """The placements of one pool on the Ray cluster that `pool` speaks to."""

    def __init__(self, pool: PoolProcess, *, interval_s: float = 1.0, pause: Backoff | None = None) -> None:
        """Looks at Serve every `interval_s`; `pause` spaces the tries to reach a Ray that is away."""
        self._pool = pool
        self._interval_s = interval_s
        self._pause = pause or Backoff(first_s=0.5, longest_s=10.0)
        self._desired: Desired | None = None
        self._observed: tuple[Observed, ...] = ()
        self._survey: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        """Live Ray nodes, and applications that are no placement."""
        self._applied: Desired | None = None
        self._applied_at = 0.0
        self._demand: Mapping[str, float] = {}
        """Replicas' worth of work that waits, by placement id."""
        self._demand_told: Mapping[str, float] | None = None
        self._demand_told_at = 0.0
        self._changed = asyncio.Event()
        self._outbox: Outbox | None = None

    async def run(self) -> None:
        """Reconcile until cancelled; what runs in Serve runs on."""
        try:
            while True:
                await self._wait_for_change()
                if self._desired is None:
                    continue  # Nothing is known yet; an empty pool must not be concluded from silence.
                await self._try_to_reconcile(self._desired)
        finally:
            await self._pool.close()

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """`Desired` follows by itself."""
        del welcome
        self._outbox = outbox

    def down(self) -> None:
        """Nothing is carried that could break; what is waited for, nobody tells any more."""
        self._outbox = None
        self._demand = {}

    def take(self, message: Control) -> bool:
        """Note other placements, and what waits for them."""
        match message:
            case Demand():
                if message.replicas != self._demand:
                    log.info("demand.received", replicas=message.replicas)
                    self._demand = message.replicas
                    self._changed.set()
            case Desired():
                log.info(
                    "placements.received", generation=message.generation, placements=len(message.placements)
                )
                self._desired = message
                self._changed.set()
            case _:
                return False
        return True

    def heartbeat(self) -> None:
        """This is what is true."""
        self._report()

    def placements(self) -> tuple[PlacementReport, ...]:
        """What was observed last, for people."""
        wanted = {placement.placement_id: placement for placement in self._wanted}
        return tuple(_shown(seen, wanted.get(seen.placement_id)) for seen in self._observed)

    @property
    def _wanted(self) -> tuple[Placement, ...]:
        return () if self._desired is None else self._desired.placements

    async def _wait_for_change(self) -> None:
        """Return when other placements are wanted, or when it is time to look."""
        starting = any(seen.starting for seen in self._observed)
        try:
            async with asyncio.timeout(
                min(self._interval_s, _STARTING_INTERVAL_S) if starting else self._interval_s
            ):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _try_to_reconcile(self, desired: Desired) -> None:
        try:
            await self._reconcile(desired)
            self._pause.reset()
        except PoolAway as error:
            log.warning("pool.away", reason=str(error))
            self._observe(_away(desired.placements, str(error)))
            await asyncio.sleep(self._pause.next_s())

    async def _reconcile(self, desired: Desired) -> None:
        if not self._pool.connected:
            self._applied = self._demand_told = None
            await self._pool.connect()
        loop = asyncio.get_running_loop()
        missing = _missing(desired.placements, self._observed)
        if self._is_applied(desired) and not (missing and loop.time() - self._applied_at > _REAPPLY_S):
            self._observe(await self._pool.call(None, demand=self._news_of_demand()))
            return
        log.info(
            "placements.applying",
            generation=desired.generation,
            placements=len(desired.placements),
            missing=list(missing),
        )
        observed = await self._pool.call(desired.placements, demand=self._news_of_demand())
        self._applied, self._applied_at = desired, loop.time()
        self._observe(observed)

    def _news_of_demand(self) -> Mapping[str, float] | None:
        """What the pool is to be told of demand now; None when it knows."""
        demand, now = self._demand, asyncio.get_running_loop().time()
        known = demand == self._demand_told or (not demand and self._demand_told is None)
        if known and not (demand and now - self._demand_told_at >= _DEMAND_REPEAT_S):
            return None
        self._demand_told, self._demand_told_at = demand, now
        return demand

    def _is_applied(self, desired: Desired) -> bool:
        return self._applied is not None and self._applied.placements == desired.placements

    def _observe(self, observed: tuple[Observed, ...]) -> None:
        """Keep what is true, and report it at once when it is news."""
        survey = (self._pool.ray_nodes, self._pool.unknown) if self._pool.connected else ((), ())
        if (observed, survey) == (self._observed, self._survey):
            return
        self._observed, self._survey = observed, survey
        for seen in observed:
            log.info(
                "placement.observed",
                placement_id=seen.placement_id,
                state=seen.state,
                replicas=seen.replicas,
                reason=seen.reason[:200],
            )
        self._report()

    def _report(self) -> None:
        if self._outbox is not None and self._desired is not None:
            ray_nodes, unknown = self._survey
            self._outbox.control(
                Report(
                    generation=self._desired.generation,
                    observed=self._observed,
                    ray_nodes=ray_nodes,
                    unknown=unknown[:_UNKNOWN_MAX],
                )
            )


def _missing(placements: Sequence[Placement], observed: Sequence[Observed]) -> tuple[str, ...]:
    """Ids of wanted placements that do not run."""
    running = {seen.placement_id for seen in observed if seen.state == "running"}
    return tuple(placement.placement_id for placement in placements if placement.placement_id not in running)


def _away(placements: Sequence[Placement], reason: str) -> tuple[Observed, ...]:
    """What is true of the placements while Ray cannot be asked."""
    return tuple(
        Observed(
            placement_id=placement.placement_id,
            state="placing",
            replicas=0,
            reason=f"the pool's Ray cluster is away: {reason}"[:500],
        )
        for placement in placements
    )


def _shown(seen: Observed, placement: Placement | None) -> PlacementReport:
    return PlacementReport(
        placement_id=seen.placement_id,
        node=placement.node if placement is not None else "",
        model=placement.model if placement is not None else "",
        state=seen.state,
        replicas=seen.replicas,
        reason=seen.reason,
    )
