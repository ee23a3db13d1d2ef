"""One link's part in demand: a node tells how long its replicas' queues are, a pool's controller is told what to wake."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from raymart_core.ids import Prefix, show
from raymart_core.wire.link import Demand, Replica
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.planning.sleepers import load_sleepers
from raymart_marketplace.supply.planning.waking import wakes

log = structlog.get_logger()

_REPEAT_S = 5.0
"""Demand is told again after this long, for a controller forgets it after three times that."""


class QueueReport:
    """Of a node's link: what its heartbeats say of queues goes to the board, by revision."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._revisions: dict[str, str] = {}

    def announced(self, replicas: Sequence[Replica]) -> None:
        """Which revision each replica serves."""
        self._revisions = {replica.replica_id: replica.revision for replica in replicas}

    def heartbeat(self, waiting: Mapping[str, int]) -> None:
        """Replace the node's queues; what it says of replicas that it has not announced is ignored."""
        board = self._context.demand
        if board is None:
            return
        found: Counter[str] = Counter()
        for replica_id, count in waiting.items():
            revision = self._revisions.get(replica_id)
            if revision is not None and count > 0:
                # A node may not talk the market into waking everything.
                found[revision] += min(count, self._context.limits.capacity_max)
        board.queued(self._context.identity.node_id, dict(found))

    def lost(self) -> None:
        """Its queues are gone with it."""
        self.heartbeat({})


class DemandPush:
    """Of a controller's link: sends `Demand` when it changes, and again while there is any."""

    def __init__(self, context: LinkContext, *, kick: Callable[[], None]) -> None:
        """`kick` is called when something begins to wait in this process, and must not wait."""
        self._context = context
        self._sent: Mapping[str, float] = {}
        self._sent_at = 0.0
        board = context.demand
        self._unsubscribe = board.subscribe(kick) if board is not None else None

    async def step(self) -> None:
        """Look what waits, and say what of it this pool is to wake. Raises: SQLAlchemyError, OSError."""
        board = self._context.demand
        if board is None:
            return
        demand = await board.read()
        replicas: Mapping[str, float] = {}
        if demand.is_any:
            async with session_scope(self._context.sessions) as session:
                sleepers, nodes = await load_sleepers(session, demand)
            found = wakes(demand, sleepers, nodes)
            replicas = {
                show(Prefix.PLACEMENT, sleeper.placement_id): found[sleeper.placement_id]
                for sleeper in sleepers
                if sleeper.placement_id in found and sleeper.pool_id == self._context.identity.pool_id
            }
        due = bool(replicas) and time.monotonic() - self._sent_at >= _REPEAT_S
        if replicas != self._sent or due:
            self._context.link.outbox.control(Demand(replicas=dict(replicas)))
            if replicas.keys() != self._sent.keys():
                log.info("demand.sent", pool=self._context.identity.pool_slug, placements=sorted(replicas))
            self._sent, self._sent_at = replicas, time.monotonic()

    def lost(self) -> None:
        """Stop listening."""
        if self._unsubscribe is not None:
            self._unsubscribe()
