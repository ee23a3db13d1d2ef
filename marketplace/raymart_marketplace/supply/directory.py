"""The live endpoints of this process: what nodes announce, joined with what the database says of it.

An endpoint is live while its node's link is up, the node announces a ready replica of the revision, and the provider
has an open offer for it (`supply.endpoints`). Memory only: it rebuilds itself from the links within seconds. Nothing
here waits except `refresh` and `load`, which read the database. Routing draws from the markets that are kept here, one
for each model (`routing.market`).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.link import Replica
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.routing.market import TEND_EVERY_S, Market
from raymart_marketplace.supply.batches import Batches
from raymart_marketplace.supply.bulkhead import REQUESTS_MAX, Bulkhead
from raymart_marketplace.supply.endpoints import NODES_MAX, EndpointFacts, facts_of_nodes
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.live import LiveEndpoint, Served
from raymart_marketplace.supply.live_prices import LivePrices
from raymart_marketplace.supply.live_row import EndpointRow, ReplicaEntry, ReplicaLease
from raymart_marketplace.supply.track_record import TrackRecords
from raymart_marketplace.supply.upstream import Upstream

log = structlog.get_logger()

DirectUpstreamFactory = Callable[[str, str, str | None], Upstream]
"""Makes the direct way to a replica from its address (IP:port), secret and, unless it speaks no TLS, certificate's SHA-256."""

FEE_BASIS_POINTS = 1_000
"""The platform's share where nothing else says so."""
_REFRESH_SHARE = 0.02
"""Of the time that may go into reading a market of more than `NODES_MAX` nodes again and again."""


class LiveLink(Protocol):
    """A node's link, as far as the directory needs it."""

    def upstream(self, replica_id: str) -> Upstream:
        """The tunnelled way to one replica."""


@dataclass(slots=True, kw_only=True, eq=False)
class _NodeEntry:
    """One node with a live link."""

    identity: NodeIdentity
    link: LiveLink
    draining: bool = False
    replicas: dict[str, ReplicaEntry] = field(default_factory=dict)
    facts: dict[str, EndpointFacts] = field(default_factory=dict)
    """By manifest digest."""
    endpoints: dict[UUID, EndpointRow] = field(default_factory=dict)
    """What of it is in the markets, by id."""
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Serialises reads of the database, so that an older answer never overwrites a newer one."""


class Directory:
    """Live endpoints and the way to reach them. Implements `supply.live.EndpointDirectory`.

    `direct` makes the upstream of a replica that announces an address; it is used only for nodes of `direct_pools`,
    because an address is a node's own claim and the gateway would connect to it.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        fee_basis_points: int = FEE_BASIS_POINTS,
        direct: DirectUpstreamFactory | None = None,
        direct_pools: Collection[str] = ("house",),
        refresh_s: float = 2.0,
        records: TrackRecords | None = None,
        provider_requests_max: int = REQUESTS_MAX,
    ) -> None:
        self._sessions = sessions
        self._prices = LivePrices(fee_basis_points=fee_basis_points)
        self._direct = direct
        self._direct_pools = frozenset(direct_pools)
        self._refresh_s = refresh_s
        self._records = records or TrackRecords()
        self._provider_requests_max = provider_requests_max
        self._loads: Batches[UUID, None, None] = Batches(self._load_asked, missing=None, size_max=NODES_MAX)
        self._nodes: dict[UUID, _NodeEntry] = {}
        self._endpoints: dict[UUID, EndpointRow] = {}
        self._markets: dict[str, Market] = {}
        self._bulkheads: dict[UUID, Bulkhead] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to re-read offers and prices every `refresh_s` seconds, and to keep the markets' orders fresh."""
        self._tasks = [
            asyncio.create_task(self._refresh_forever(), name="directory.refresh"),
            asyncio.create_task(self._tend_forever(), name="directory.tend"),
        ]

    async def stop(self) -> None:
        """Stop both."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    # Reading: implements supply.live.EndpointDirectory.

    def market(self, model_slug: str) -> Market | None:
        """What serves `model_slug` now, to choose from; None when nothing does."""
        return self._markets.get(model_slug)

    def live(self, model_slug: str) -> Sequence[LiveEndpoint]:
        """Endpoints that serve `model_slug` now, quarantined ones included."""
        market = self._markets.get(model_slug)
        return [] if market is None else [row.snapshot() for row in market if row.is_sold]

    def all_live(self) -> Sequence[LiveEndpoint]:
        """Every live endpoint."""
        return [row.snapshot() for row in self._endpoints.values() if row.is_sold]

    def is_linked(self, node_id: UUID) -> bool:
        """Whether the node has a link, with this process or a sibling."""
        return node_id in self._nodes

    def acquire(self, endpoint_id: UUID) -> ReplicaLease | None:
        """Count a request on the endpoint's least loaded replica; None when it is gone meanwhile, or crowded."""
        row = self._endpoints.get(endpoint_id)
        if row is None or row.bulkhead.is_full:
            return None
        return ReplicaLease(row, now=self._records.clock())

    def report_failure(self, endpoint_id: UUID, *, reason: str, began_at: float) -> None:
        """Open the endpoint's breaker: 2 s, doubling to 60 s while it goes on failing."""
        row = self._endpoints.get(endpoint_id)
        open_s = self._records.failed(
            endpoint_id, row.model_slug if row is not None else None, began_at=began_at
        )
        if open_s:
            log.warning("endpoint.opened", endpoint_id=str(endpoint_id), reason=reason, open_s=open_s)

    def report_success(self, endpoint_id: UUID, served: Served) -> None:
        """Count what it served, and close its breaker unless that is still open."""
        if (row := self._endpoints.get(endpoint_id)) is not None:
            self._records.served(row.record, row.figures_of_model, served)

    # Writing: called by the links.

    def link_up(self, identity: NodeIdentity, link: LiveLink) -> None:
        """`identity` is reachable by `link` from now on; replaces an older link of the same node."""
        self._forget(identity.node_id)
        self._nodes[identity.node_id] = _NodeEntry(identity=identity, link=link)

    def link_down(self, node_id: UUID, link: LiveLink) -> None:
        """Take the node's endpoints out of routing at once; a no-op when a newer link has taken over."""
        if self._node(node_id, link) is not None:
            self._forget(node_id)

    def link_draining(self, node_id: UUID, link: LiveLink) -> None:
        """The node takes no new requests; those that run go on."""
        if (node := self._node(node_id, link)) is not None:
            node.draining = True
            self._index(node)

    def announce(self, node_id: UUID, link: LiveLink, replicas: Sequence[Replica]) -> bool:
        """Replace what the node announced before; whether the database must be asked (`load`) for new revisions."""
        node = self._node(node_id, link)
        if node is None:
            return False
        known = node.replicas
        node.replicas = {replica.replica_id: self._entry(node, known, replica) for replica in replicas}
        self._index(node)
        return any(replica.revision not in node.facts for replica in replicas)

    def heartbeat(self, node_id: UUID, link: LiveLink, running: dict[str, int]) -> None:
        """Note the load that the node sees beyond ours."""
        node = self._node(node_id, link)
        if node is None:
            return
        for replica_id, entry in node.replicas.items():
            entry.report(running.get(replica_id, 0))

    def leased(self) -> Mapping[UUID, Mapping[str, int]]:
        """Requests of this process by node and replica, where there are any."""
        found: dict[UUID, dict[str, int]] = {}
        for node_id, node in self._nodes.items():
            for replica_id, entry in node.replicas.items():
                if entry.leased:
                    found.setdefault(node_id, {})[replica_id] = entry.leased
        return found

    def leased_elsewhere(self, node_id: UUID, leased: Mapping[str, int]) -> None:
        """Note what sibling processes have under way at the node, by replica; what is left out has none."""
        if (node := self._nodes.get(node_id)) is not None:
            for replica_id, entry in node.replicas.items():
                entry.elsewhere(leased.get(replica_id, 0))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each `refresh`; returns how to stop that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def load(self, node_id: UUID) -> None:
        """Read the facts of what the node announces, and the price book unless it is fresh. Raises: SQLAlchemyError, OSError, TimeoutError."""
        await self._loads.ask(node_id, None)

    async def refresh(self) -> None:
        """Re-read the price book, and offers and asks of every live node, now, and let pool controllers look at their placements.

        Call after a change of offers, prices or placements. Raises: SQLAlchemyError, OSError, TimeoutError.
        """
        for listener in tuple(self._listeners):
            listener()
        async with session_scope(self._sessions) as session:
            await self._prices.load(session)
        await self._load_all()

    async def _load_asked(self, asked: Mapping[UUID, None]) -> Mapping[UUID, None]:
        await self._load([node for node_id in asked if (node := self._nodes.get(node_id)) is not None])
        return {}

    async def _load_all(self) -> None:
        nodes = list(self._nodes.values())
        for first in range(0, len(nodes), NODES_MAX):
            await self._load(nodes[first : first + NODES_MAX])

    async def _load(self, nodes: Sequence[_NodeEntry]) -> None:
        async with AsyncExitStack() as stack:
            # In the order of their ids: two loads that share nodes wait for each other once, not for ever.
            for node in sorted(nodes, key=lambda each: each.identity.node_id):
                await stack.enter_async_context(node.loading)
            announced = {
                node.identity.node_id: {entry.replica.revision for entry in node.replicas.values()}
                for node in nodes
            }
            async with session_scope(self._sessions) as session:
                if self._prices.age_s >= self._refresh_s / 2:
                    await self._prices.load(session)
                found = await facts_of_nodes(session, announced)
            for node in nodes:
                node_id = node.identity.node_id
                if self._nodes.get(node_id) is node:
                    node.facts = {fact.revision_digest: fact for fact in found[node_id]}
                    self._index(node)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            self._records.forget(self._endpoints.__contains__)
            nodes = list(self._nodes.values())
            for first in range(0, len(nodes), NODES_MAX):
                began_at = time.monotonic()
                await self._refresh_part(nodes[first : first + NODES_MAX])
                if first + NODES_MAX < len(nodes):
                    # A market of ten thousand nodes is read over half a minute: news reach it by themselves.
                    await asyncio.sleep((time.monotonic() - began_at) / _REFRESH_SHARE)

    async def _refresh_part(self, nodes: Sequence[_NodeEntry]) -> None:
        try:
            await self._load(nodes)
        except (SQLAlchemyError, OSError) as error:
            # What is known stays in routing: an open offer does not close because the database is away.
            log.warning("directory.refresh_failed", reason=str(error)[:200])

    async def _tend_forever(self) -> None:
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            for market in tuple(self._markets.values()):
                for _ in market.tend():
                    await asyncio.sleep(0)

    def _node(self, node_id: UUID, link: LiveLink) -> _NodeEntry | None:
        """The node's entry if `link` is its present link."""
        node = self._nodes.get(node_id)
        return node if node is not None and node.link is link else None

    def _entry(self, node: _NodeEntry, known: dict[str, ReplicaEntry], replica: Replica) -> ReplicaEntry:
        entry = known.get(replica.replica_id)
        if entry is not None and _reached_by(entry.replica) == _reached_by(replica):
            entry.replica = replica
            return entry
        direct = self._direct_way(node, replica)
        return ReplicaEntry(
            replica=replica,
            upstream=direct or node.link.upstream(replica.replica_id),
            direct=direct is not None,
        )

    def _direct_way(self, node: _NodeEntry, replica: Replica) -> Upstream | None:
        if self._direct is None or replica.address is None or replica.secret is None:
            return None
        if node.identity.pool_slug not in self._direct_pools:
            return None
        try:
            return self._direct(replica.address, replica.secret, replica.certificate_sha256)
        except ValueError as error:
            log.warning("replica.address_unusable", node=node.identity.name, reason=str(error))
            return None

    def _index(self, node: _NodeEntry) -> None:
        """Bring the markets in line with the node's replicas and facts; what has not changed stays as it is."""
        wanted = {
            facts.id: (facts, ready)
            for digest, facts in node.facts.items()
            if not node.draining and (ready := _ready_replicas(node, digest))
        }
        before = len(node.endpoints)
        gone = [row for row in node.endpoints.values() if row.id not in wanted]
        for row in gone:
            self._remove(node, row)
        for endpoint_id, (facts, ready) in wanted.items():
            known = node.endpoints.get(endpoint_id)
            if known is None:
                self._add(node, facts, ready)
            elif known.update(facts, ready):
                self._markets[facts.model_slug].changed()
        if gone or len(node.endpoints) != before:
            log.info(
                "node.endpoints_changed",
                node=node.identity.name,
                endpoints=len(node.endpoints),
                before=before,
            )

    def _add(self, node: _NodeEntry, facts: EndpointFacts, replicas: tuple[ReplicaEntry, ...]) -> None:
        bulkhead = self._bulkheads.get(facts.provider_id)
        if bulkhead is None:
            bulkhead = self._bulkheads[facts.provider_id] = Bulkhead(most=self._provider_requests_max)
        row = EndpointRow(facts, replicas, prices=self._prices, records=self._records, bulkhead=bulkhead)
        node.endpoints[row.id] = self._endpoints[row.id] = row
        market = self._markets.get(row.model_slug)
        if market is None:
            market = self._markets[row.model_slug] = Market()
        market.add(row)

    def _remove(self, node: _NodeEntry, row: EndpointRow) -> None:
        row.removed()
        del node.endpoints[row.id]
        del self._endpoints[row.id]
        market = self._markets[row.model_slug]
        market.remove(row.id)
        if not market:
            del self._markets[row.model_slug]
        if not row.bulkhead.slots and not row.bulkhead.under_way:
            del self._bulkheads[row.facts.provider_id]

    def _forget(self, node_id: UUID) -> None:
        node = self._nodes.pop(node_id, None)
        if node is not None:
            for row in tuple(node.endpoints.values()):
                self._remove(node, row)


def _reached_by(replica: Replica) -> tuple[str | None, ...]:
    return replica.address, replica.secret, replica.certificate_sha256


def _ready_replicas(node: _NodeEntry, digest: str) -> tuple[ReplicaEntry, ...]:
    return tuple(
        entry
        for entry in node.replicas.values()
        if entry.replica.revision == digest and entry.replica.state == "ready"
    )
