"""What can be routed to at this moment, as the gateway and the API see it.

An endpoint is live while its node's link is up and at least one of its replicas is ready. The directory that keeps
these is `supply.directory`; it is memory only and rebuilds itself from the links within seconds of a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.tenancy import Confinement
from raymart_marketplace.supply.upstream import Upstream


class Standing(StrEnum):
    """What a revision is to requests that name none: by the model's alias `stable` for its number format."""

    CURRENT = "current"
    """It is the stable one, or no revision of its format is."""
    SUPERSEDED = "superseded"
    """It was, and another is now: it serves where that one cannot, until its replicas are gone."""
    CANDIDATE = "candidate"
    """Another is, and it never was: served only to requests that name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEndpoint:
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


class EndpointDirectory(Protocol):
    """Live endpoints and the way to reach them."""

    def live(self, model_slug: str) -> Sequence[LiveEndpoint]:
        """Endpoints that serve `model_slug` now, quarantined ones included."""

    def all_live(self) -> Sequence[LiveEndpoint]:
        """Every live endpoint."""

    def acquire(self, endpoint_id: UUID) -> "Lease | None":
        """Count a request on the endpoint and pick its least loaded replica; None when it is gone meanwhile."""

    def report_failure(self, endpoint_id: UUID, *, reason: str) -> None:
        """Tell of a provider's failure; the endpoint is quarantined for a few seconds, longer when it repeats."""

    def report_success(self, endpoint_id: UUID) -> None:
        """Tell of a good attempt; ends a quarantine's memory."""


class Lease(Protocol):
    """The right to send one request to one replica. Use as a context manager: leaving it counts the request off."""

    upstream: Upstream

    def __enter__(self) -> "Lease": ...

    def __exit__(self, *exception: object) -> None: ...
