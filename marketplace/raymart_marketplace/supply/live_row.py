"""One live endpoint and its replicas as the directory keeps them: what is fixed, and what changes with every request."""

from dataclasses import dataclass
from uuid import UUID

from raymart_core.ports import Prices
from raymart_core.wire.link import Replica
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.supply.bulkhead import Bulkhead
from raymart_marketplace.supply.endpoints import EndpointFacts
from raymart_marketplace.supply.live import LiveEndpoint, Standing
from raymart_marketplace.supply.live_prices import LivePrices, PriceTag
from raymart_marketplace.supply.measured_pace import MeasuredPace
from raymart_marketplace.supply.track_record import TrackRecords
from raymart_marketplace.supply.trust import DataPolicy, Trust
from raymart_marketplace.supply.upstream import Upstream


@dataclass(slots=True, kw_only=True, eq=False)
class ReplicaEntry:
    """One announced replica and its load."""

    replica: Replica
    upstream: Upstream
    direct: bool
    leased: int = 0
    """Requests of this process."""
    others: int = 0
    """Requests beyond ours: what the node has reported, or what sibling processes have said since, if that is more."""
    reported: int = 0
    siblings: int = 0

    @property
    def running(self) -> int:
        """Requests that run there."""
        return self.leased + self.others

    def report(self, running: int) -> None:
        """The node says what runs there. A direct request does not pass the node, so it sees none."""
        ours = 0 if self.direct else self.leased
        # Clamped: a node may not talk its counter into nonsense.
        self.reported = min(max(0, running - ours), self.replica.capacity)
        self.others = max(self.reported, self.siblings)

    def elsewhere(self, leased: int) -> None:
        """Sibling processes have so many requests there."""
        self.siblings = leased
        self.others = max(self.reported, leased)

    @property
    def load(self) -> tuple[bool, float, int]:
        """Sorts a replica with a free slot first, then the least loaded."""
        running = self.running
        return running >= self.replica.capacity, running / self.replica.capacity, running


class EndpointRow:
    """One live endpoint: at least one ready replica. Implements `routing.market.Row`.

    What is fixed lies in attributes, because a decision reads it of many rows; `update` replaces it.
    """

    __slots__ = (
        "_prices",
        "_records",
        "_tag",
        "bulkhead",
        "capacity",
        "context_length",
        "data_policy",
        "facts",
        "figures_of_model",
        "id",
        "is_live",
        "model_slug",
        "pace",
        "provider_slug",
        "quantization",
        "record",
        "region",
        "replicas",
        "revision_digest",
        "standing",
        "trust",
    )

    def __init__(
        self,
        facts: EndpointFacts,
        replicas: tuple[ReplicaEntry, ...],
        *,
        prices: LivePrices,
        records: TrackRecords,
        bulkhead: Bulkhead,
    ) -> None:
        """Counts its slots in at `bulkhead`; `removed` counts them off."""
        self._prices = prices
        self._records = records
        self.figures_of_model = records.of_model(facts.model_slug)
        self.record = records.of(facts.id)
        self.pace = MeasuredPace(self.record.figures, self.figures_of_model, clock=records.clock)
        self.bulkhead = bulkhead
        self.id = facts.id
        self.capacity = 0
        self.is_live = True
        self._fix(facts, replicas)

    def update(self, facts: EndpointFacts, replicas: tuple[ReplicaEntry, ...]) -> bool:
        """Take what is now known of the same endpoint; whether anything that orders are made of has changed."""
        if facts == self.facts and replicas == self.replicas:
            capacity = _slots(replicas)
            if capacity == self.capacity:
                return False
        self._fix(facts, replicas)
        return True

    def removed(self) -> None:
        """It is not live any more: nobody is sent there from now on. What runs there goes on."""
        self.is_live = False
        self.bulkhead.add_slots(-self.capacity)
        self.capacity = 0

    def _fix(self, facts: EndpointFacts, replicas: tuple[ReplicaEntry, ...]) -> None:
        self.facts = facts
        self.replicas = replicas
        self._tag = PriceTag()
        capacity = _slots(replicas)
        self.bulkhead.add_slots(capacity - self.capacity)
        self.capacity = capacity
        self.model_slug: str = facts.model_slug
        self.provider_slug: str = facts.provider_slug
        self.revision_digest: str = facts.revision_digest
        self.standing: Standing = facts.standing
        self.region: str = facts.region
        self.quantization: str = facts.quantization
        self.context_length: int = facts.context_length
        self.trust: Trust = facts.trust
        self.data_policy: DataPolicy = facts.data_policy

    # What routing reads (`routing.route.Offered`).

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names of the revision."""
        return self.facts.aliases

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the revision says it can do."""
        return self.facts.capabilities

    @property
    def modality(self) -> Modality:
        """What its model makes."""
        return self.facts.sold.modality

    @property
    def running(self) -> int:
        """Requests in flight from this process, plus what the node last reported of others."""
        total = 0
        for entry in self.replicas:
            total += entry.leased + entry.others
        return total

    @property
    def is_sold(self) -> bool:
        """Whether it is live and has a price at this moment."""
        return self.is_live and self._prices.price(self._tag, self.facts).prices is not None

    @property
    def prices(self) -> Prices:
        """Of this moment. Only while it is sold."""
        prices = self._prices.price(self._tag, self.facts).prices
        assert prices is not None, "an endpoint without a price is not offered"
        return prices

    @property
    def crowded(self) -> bool:
        """Whether its provider has no room for another request of this process."""
        return self.bulkhead.is_full

    @property
    def quarantined(self) -> bool:
        """Whether it failed a moment ago."""
        breaker = self.record.breaker
        return breaker.failures > 0 and breaker.refuses(self._records.clock())

    @property
    def rests_until(self) -> float:
        """When it is tried again, by the monotonic clock."""
        return self.record.breaker.until

    @property
    def first_token_ms(self) -> float | None:
        """How long its first token took of late."""
        prior = self.figures_of_model.first_token_ms.mean
        return self.record.figures.first_token_ms.near(prior, self._records.clock())

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it generated of late."""
        prior = self.figures_of_model.tokens_per_s.mean
        return self.record.figures.tokens_per_s.near(prior, self._records.clock())

    @property
    def error_rate(self) -> float:
        """The share of what it was asked of late that failed by its fault."""
        prior = self.figures_of_model.failure.mean
        return self.record.figures.failure.near(prior, self._records.clock()) or 0.0

    def is_for(self, organization_id: UUID | None) -> bool:
        """Whether the organization may use the model."""
        return self.facts.audience is None or organization_id in self.facts.audience

    def snapshot(self, prices: Prices | None = None) -> LiveEndpoint:
        """The endpoint as it is now, at `prices` of a moment ago; without them only while it is sold."""
        facts, figures, of_model = self.facts, self.record.figures, self.figures_of_model
        now, breaker, price = (
            self._records.clock(),
            self.record.breaker,
            self._prices.price(self._tag, self.facts),
        )
        prices = prices or price.prices
        assert prices is not None, "an endpoint without a price is not offered"
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
            fee_basis_points=price.fee_basis_points,
            capacity=self.capacity,
            running=self.running,
            quarantined=breaker.refuses(now),
            standing=facts.standing,
            aliases=facts.aliases,
            audience=facts.audience,
            trust=facts.trust,
            data_policy=facts.data_policy,
            capabilities=facts.capabilities,
            crowded=self.bulkhead.is_full,
            breaker=breaker.state(now),
            rests_until=breaker.until,
            first_token_ms=figures.first_token_ms.near(of_model.first_token_ms.mean, now),
            inter_token_ms=figures.inter_token_ms.near(of_model.inter_token_ms.mean, now),
            tokens_per_s=figures.tokens_per_s.near(of_model.tokens_per_s.mean, now),
            error_rate=figures.failure.near(of_model.failure.mean, now) or 0.0,
            observations=figures.failure.weight(now),
            pace=self.pace,
        )

    def least_loaded(self) -> ReplicaEntry:
        """The replica for the next request."""
        if len(self.replicas) == 1:
            return self.replicas[0]
        return min(self.replicas, key=lambda entry: entry.load)


class ReplicaLease:
    """One counted request on one replica. Implements `supply.live.Lease`; leaving it counts the request off."""

    __slots__ = ("_entry", "_is_trial", "_row", "upstream")

    def __init__(self, row: EndpointRow, *, now: float) -> None:
        entry = row.least_loaded()
        entry.leased += 1
        row.bulkhead.under_way += 1
        self._is_trial = row.record.breaker.enter(now)
        self._row = row
        self._entry: ReplicaEntry | None = entry
        self.upstream = entry.upstream

    def __enter__(self) -> "ReplicaLease":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._entry is None:
            return
        self._entry.leased -= 1
        self._entry = None
        self._row.bulkhead.under_way -= 1
        if self._is_trial:
            self._row.record.breaker.leave()


def _slots(replicas: tuple[ReplicaEntry, ...]) -> int:
    return sum(entry.replica.capacity for entry in replicas)
