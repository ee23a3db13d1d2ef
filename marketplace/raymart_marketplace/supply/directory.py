"""The live endpoints of this process: what nodes announce, joined with what the database says of it.

An endpoint is live while its node's link is up, the node announces a ready replica of the revision, and the provider
has an open offer for it (`supply.endpoints`). Memory only: it rebuilds itself from the links within seconds. Nothing
here waits except `refresh` and `load`, which read the database.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.ports import Prices
from raymart_core.wire.link import Replica
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.endpoints import EndpointFacts, endpoint_facts
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.live import LiveEndpoint
from raymart_marketplace.supply.live_prices import LivePrices, PriceTag
from raymart_marketplace.supply.quarantine import Quarantine
from raymart_marketplace.supply.upstream import Upstream

log = structlog.get_logger()

DirectUpstreamFactory = Callable[[str, str], Upstream]
"""Makes the direct way to a replica from its address (host:port) and secret."""

FEE_BASIS_POINTS = 1_000
"""The platform's share where nothing else says so."""


class LiveLink(Protocol):
    """A node's link, as far as the directory needs it."""

    def upstream(self, replica_id: str) -> Upstream:
        """The tunnelled way to one replica."""


@dataclass(slots=True, kw_only=True, eq=False)
class _ReplicaEntry:
    """One announced replica and its load."""

    replica: Replica
    upstream: Upstream
    direct: bool
    leased: int = 0
    """Requests of this process."""
    others: int = 0
    """Requests the node has reported beyond ours."""

    @property
    def running(self) -> int:
        return self.leased + self.others

    @property
    def load(self) -> tuple[bool, float, int]:
        """Sorts a replica with a free slot first, then the least loaded."""
        running = self.running
        return running >= self.replica.capacity, running / self.replica.capacity, running


@dataclass(slots=True, kw_only=True, eq=False)
class _NodeEntry:
    """One node with a live link."""

    identity: NodeIdentity
    link: LiveLink
    draining: bool = False
    replicas: dict[str, _ReplicaEntry] = field(default_factory=dict)
    facts: dict[str, EndpointFacts] = field(default_factory=dict)
    """By manifest digest."""
    endpoints: "list[_EndpointEntry]" = field(default_factory=list)
    """What of it is in the directory's index."""
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Serialises reads of the database, so that an older answer never overwrites a newer one."""


@dataclass(slots=True, kw_only=True, eq=False)
class _EndpointEntry:
    """One live endpoint: at least one ready replica."""

    facts: EndpointFacts
    replicas: tuple[_ReplicaEntry, ...]
    tag: PriceTag = field(default_factory=PriceTag)

    def snapshot(self, *, prices: Prices, fee_basis_points: int, quarantined: bool) -> LiveEndpoint:
        facts = self.facts
        return LiveEndpoint(
            id=facts.id,
            node_id=facts.node_id,
            node_name=facts.node_name,
            provider_id=facts.provider_id,
            provider_slug=facts.provider_slug,
            offer_id=facts.offer_id,
            revision_id=facts.revision_id,
            revision_digest=facts.revision_digest,
            model_slug=facts.model_slug,
            modality=facts.sold.modality,
            engine=facts.engine,
            quantization=facts.quantization,
            region=facts.region,
            context_length=facts.context_length,
            prices=prices,
            fee_basis_points=fee_basis_points,
            capacity=sum(entry.replica.capacity for entry in self.replicas),
            running=sum(entry.running for entry in self.replicas),
            quarantined=quarantined,
            standing=facts.standing,
            aliases=facts.aliases,
            audience=facts.audience,
        )


class ReplicaLease:
    """One counted request on one replica. Implements `supply.live.Lease`; leaving it counts the request off."""

    __slots__ = ("_entry", "upstream")

    def __init__(self, entry: _ReplicaEntry) -> None:
        entry.leased += 1
        self._entry: _ReplicaEntry | None = entry
        self.upstream = entry.upstream

    def __enter__(self) -> "ReplicaLease":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._entry is not None:
            self._entry.leased -= 1
            self._entry = None


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
        quarantine: Quarantine | None = None,
    ) -> None:
        self._sessions = sessions
        self._prices = LivePrices(fee_basis_points=fee_basis_points)
        self._direct = direct
        self._direct_pools = frozenset(direct_pools)
        self._refresh_s = refresh_s
        self._quarantine = quarantine or Quarantine()
        self._nodes: dict[UUID, _NodeEntry] = {}
        self._endpoints: dict[UUID, _EndpointEntry] = {}
        self._by_model: dict[str, dict[UUID, _EndpointEntry]] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to re-read offers and prices every `refresh_s` seconds."""
        self._refresher = asyncio.create_task(self._refresh_forever(), name="directory.refresh")

    async def stop(self) -> None:
        """Stop re-reading."""
        if self._refresher is not None:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
            self._refresher = None

    # Reading: implements supply.live.EndpointDirectory.

    def live(self, model_slug: str) -> Sequence[LiveEndpoint]:
        """Endpoints that serve `model_slug` now, quarantined ones included."""
        return self._snapshots(self._by_model.get(model_slug, {}).values())

    def all_live(self) -> Sequence[LiveEndpoint]:
        """Every live endpoint."""
        return self._snapshots(self._endpoints.values())

    def is_linked(self, node_id: UUID) -> bool:
        """Whether the node's link ends in this process."""
        return node_id in self._nodes

    def acquire(self, endpoint_id: UUID) -> ReplicaLease | None:
        """Count a request on the endpoint's least loaded replica; None when the endpoint is gone meanwhile."""
        entry = self._endpoints.get(endpoint_id)
        if entry is None:
            return None
        return ReplicaLease(min(entry.replicas, key=lambda replica: replica.load))

    def report_failure(self, endpoint_id: UUID, *, reason: str) -> None:
        """Quarantine the endpoint: 2 s, doubling to 60 s while it goes on failing."""
        quarantine_s = self._quarantine.fail(endpoint_id)
        if quarantine_s:
            log.warning(
                "endpoint.quarantined",
                endpoint_id=str(endpoint_id),
                reason=reason,
                quarantine_s=quarantine_s,
            )

    def report_success(self, endpoint_id: UUID) -> None:
        """End the memory of failures, unless a quarantine still runs."""
        self._quarantine.succeed(endpoint_id)

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
        """Note the load that the node sees beyond ours. A direct request does not pass the node, so it sees none."""
        node = self._node(node_id, link)
        if node is None:
            return
        for replica_id, entry in node.replicas.items():
            ours = 0 if entry.direct else entry.leased
            # Clamped: a node may not talk its counter into nonsense.
            entry.others = min(max(0, running.get(replica_id, 0) - ours), entry.replica.capacity)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each `refresh`; returns how to stop that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def load(self, node_id: UUID) -> None:
        """Read the facts of what the node announces, and the price book unless it is fresh. Raises: SQLAlchemyError, OSError, TimeoutError."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        async with node.loading:
            digests = {entry.replica.revision for entry in node.replicas.values()}
            async with session_scope(self._sessions) as session:
                if self._prices.age_s >= self._refresh_s / 2:
                    await self._prices.load(session)
                facts = await endpoint_facts(session, node_id, digests)
            if self._nodes.get(node_id) is node:
                node.facts = {fact.revision_digest: fact for fact in facts}
                self._index(node)

    async def refresh(self) -> None:
        """Re-read the price book, and offers and asks of every live node, now, and let pool controllers look at their placements.

        Call after a change of offers, prices or placements. Raises: SQLAlchemyError, OSError, TimeoutError.
        """
        for listener in tuple(self._listeners):
            listener()
        async with session_scope(self._sessions) as session:
            await self._prices.load(session)
        for node_id in tuple(self._nodes):
            await self.load(node_id)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                for node_id in tuple(self._nodes):
                    await self.load(node_id)
            except (SQLAlchemyError, OSError) as error:
                # What is known stays in routing: an open offer does not close because the database is away.
                log.warning("directory.refresh_failed", reason=str(error)[:200])

    def _node(self, node_id: UUID, link: LiveLink) -> _NodeEntry | None:
        """The node's entry if `link` is its present link."""
        node = self._nodes.get(node_id)
        return node if node is not None and node.link is link else None

    def _entry(self, node: _NodeEntry, known: dict[str, _ReplicaEntry], replica: Replica) -> _ReplicaEntry:
        entry = known.get(replica.replica_id)
        if entry is not None and (entry.replica.address, entry.replica.secret) == (
            replica.address,
            replica.secret,
        ):
            entry.replica = replica
            return entry
        direct = self._direct_way(node, replica)
        return _ReplicaEntry(
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
            return self._direct(replica.address, replica.secret)
        except ValueError as error:
            log.warning("replica.address_unusable", node=node.identity.name, reason=str(error))
            return None

    def _index(self, node: _NodeEntry) -> None:
        """Recompute the node's endpoints from its replicas and facts."""
        before = {entry.facts.id for entry in node.endpoints}
        self._unindex(node)
        if not node.draining:
            node.endpoints = [
                _EndpointEntry(facts=facts, replicas=ready)
                for digest, facts in node.facts.items()
                if (ready := _ready_replicas(node, digest))
            ]
        for entry in node.endpoints:
            self._endpoints[entry.facts.id] = entry
            self._by_model.setdefault(entry.facts.model_slug, {})[entry.facts.id] = entry
        after = {entry.facts.id for entry in node.endpoints}
        if before != after:
            log.info(
                "node.endpoints_changed", node=node.identity.name, endpoints=len(after), before=len(before)
            )

    def _unindex(self, node: _NodeEntry) -> None:
        for entry in node.endpoints:
            del self._endpoints[entry.facts.id]
            models = self._by_model[entry.facts.model_slug]
            del models[entry.facts.id]
            if not models:
                del self._by_model[entry.facts.model_slug]
        node.endpoints = []

    def _forget(self, node_id: UUID) -> None:
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._unindex(node)

    def _snapshots(self, entries: Iterable[_EndpointEntry]) -> Sequence[LiveEndpoint]:
        return [snapshot for entry in entries if (snapshot := self._snapshot(entry)) is not None]

    def _snapshot(self, entry: _EndpointEntry) -> LiveEndpoint | None:
        """The endpoint as it is now; None while it has no price at which it may be sold."""
        facts = entry.facts
        price = self._prices.price(entry.tag, offer_id=facts.offer_id, terms=facts.terms, sold=facts.sold)
        if price.prices is None:
            return None
        return entry.snapshot(
            prices=price.prices,
            fee_basis_points=price.fee_basis_points,
            quarantined=self._quarantine.holds(facts.id),
        )


def _ready_replicas(node: _NodeEntry, digest: str) -> tuple[_ReplicaEntry, ...]:
    return tuple(
        entry
        for entry in node.replicas.values()
        if entry.replica.revision == digest and entry.replica.state == "ready"
    )
