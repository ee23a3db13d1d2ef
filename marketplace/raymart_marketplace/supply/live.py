"""What can be routed to at this moment, as the gateway and the API see it.

An endpoint is live while its node's link is up and at least one of its replicas is ready. The directory that keeps
these is `supply.directory`; it is memory only and rebuilds itself from the links within seconds of a restart.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self
from uuid import UUID

from msgspec import Struct

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.tenancy import Confinement
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.pace import UNKNOWN_PACE, Pace
from raymart_marketplace.supply.trust import DataPolicy, Trust
from raymart_marketplace.supply.upstream import Upstream

if TYPE_CHECKING:
    from raymart_marketplace.routing.market import Market


class Standing(StrEnum):
    """What a revision is to requests that name none: by the model's alias `stable` for its number format."""

    CURRENT = "current"
    """It is the stable one, or no revision of its format is."""
    SUPERSEDED = "superseded"
    """It was, and another is now: it serves where that one cannot, until its replicas are gone."""
    CANDIDATE = "candidate"
    """Another is, and it never was: served only to requests that name it."""


class LiveEndpoint(Struct, frozen=True, kw_only=True, gc=False):
    """A snapshot of one endpoint. Immutable; routing is a pure function over these."""

    id: UUID
    node_id: UUID
    node_name: str
    provider_id: UUID
    provider_slug: str
    offer_id: UUID
    revision_id: UUID
    revision_digest: str
    model_slug: str
    modality: Modality
    """What the model makes."""
    engine: str
    quantization: str
    region: str
    context_length: int
    prices: Prices
    """Of this moment; a request that is admitted at them is billed at them."""
    fee_basis_points: int
    """The platform's share of what customers pay here."""
    capacity: int
    """Generations at once, over all ready replicas."""
    running: int
    """Requests in flight from this gateway, plus what the node last reported of others."""
    quarantined: bool
    """Whether recent failures keep it out of routing for now."""
    standing: Standing = Standing.CURRENT
    """Of the revision, for requests that name none."""
    aliases: tuple[str, ...] = ()
    """Of the revision."""
    audience: frozenset[UUID] | None = None
    """Organizations that may use the model; None for everybody."""
    trust: Trust = Trust.PROBED
    """How far its machine is trusted."""
    data_policy: DataPolicy = DataPolicy.UNSTATED
    """What its provider says of what it keeps."""
    capabilities: tuple[str, ...] = ()
    """What the revision says it can do, by the names of manifests."""
    crowded: bool = False
    """Whether its provider has no room for another request of this process."""
    breaker: BreakerState = BreakerState.CLOSED
    """Whether requests go to it."""
    rests_until: float = 0.0
    """When it is tried again, by the monotonic clock; says nothing while the breaker is closed."""
    first_token_ms: float | None = None
    """How long its first token took of late, from the sending of the request; None when nothing is known."""
    inter_token_ms: float | None = None
    """How long its next tokens took; likewise."""
    tokens_per_s: float | None = None
    """How fast it generated, the wait for the first token included; likewise."""
    error_rate: float = 0.0
    """The share, 0 to 1, of what it was asked of late that failed by its fault."""
    observations: float = 0.0
    """How many fresh observations the figures are worth; each counts half after a minute."""
    pace: Pace = UNKNOWN_PACE
    """Percentiles. Not of the snapshot's moment but of when they are read: few are, and to compute them takes microseconds."""

    @property
    def is_sold(self) -> bool:
        """Whether it has a price: a snapshot is made only of what has."""
        return True

    def snapshot(self, prices: Prices | None = None) -> Self:
        """Itself; a snapshot can stand in for what it was taken of (`routing.market.Row`)."""
        assert prices is None or prices == self.prices, "a snapshot has the prices of its moment"
        return self

    def is_for(self, organization_id: UUID | None) -> bool:
        """Whether the organization may use the model."""
        return self.audience is None or organization_id in self.audience

    def is_seen_by(self, viewer: Confinement | None) -> bool:
        """Whether who reads with these rights may know of the model; None is who reads everything."""
        return (
            self.audience is None
            or viewer is None
            or viewer.sees_market
            or not self.audience.isdisjoint(viewer.organizations)
        )


class Served(Struct, frozen=True, kw_only=True, gc=False):
    """How an endpoint answered; times in seconds from the sending of the request."""

    first_token_s: float | None
    """Until the first token, or the first step of a picture; None of what has neither."""
    duration_s: float
    """Until the end."""
    tokens: int = 0
    """How many it generated; none of what is no text."""


class EndpointDirectory(Protocol):
    """Live endpoints and the way to reach them."""

    def market(self, model_slug: str) -> "Market | None":
        """What serves `model_slug` now, to choose from; None when nothing does. Not to be changed by who asks."""

    def live(self, model_slug: str) -> Sequence[LiveEndpoint]:
        """Endpoints that serve `model_slug` now, quarantined ones included."""

    def all_live(self) -> Sequence[LiveEndpoint]:
        """Every live endpoint."""

    def acquire(self, endpoint_id: UUID) -> "Lease | None":
        """Count a request on the endpoint and pick its least loaded replica; None when it is gone meanwhile, or crowded."""

    def report_failure(self, endpoint_id: UUID, *, reason: str, began_at: float) -> None:
        """Tell of a provider's failure, of a request that began at `began_at` by the monotonic clock.

        The endpoint is left alone for a few seconds, longer when it repeats (`supply.breaker`).
        """

    def report_success(self, endpoint_id: UUID, served: Served) -> None:
        """Tell of a good attempt: it closes the breaker, and counts in the live figures."""


class Lease(Protocol):
    """The right to send one request to one replica. Use as a context manager: leaving it counts the request off."""

    upstream: Upstream

    def __enter__(self) -> "Lease": ...

    def __exit__(self, *exception: object) -> None: ...
