"""What the planner looks at: one provider's machines, offers and placements at one moment. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from raymart_marketplace.supply.models import NodeState, PlacementState
from raymart_marketplace.supply.planning.choices import Choices
from raymart_marketplace.supply.planning.fit import Weights


class Misfit(StrEnum):
    """Why an offer is not placed on a machine; checked in this order."""

    NO_NODE = "no_node"
    """The provider has no machine."""
    NODE_NOT_CHOSEN = "node_not_chosen"
    """The provider named other machines."""
    NODE_DRAINING = "node_draining"
    """The machine is being taken out."""
    OUTSIDE_HOURS = "outside_hours"
    """The provider's hours do not allow it now."""
    UNSELLABLE = "unsellable"
    """There is no price at which it may be sold, such as a floor above the cap."""
    NO_GPUS = "no_gpus"
    """It needs more GPUs than the machine has, or than the provider gives it there."""
    GPU_MEMORY = "gpu_memory"
    """It does not fit into the memory of the machine's GPUs."""
    MEMORY = "memory"
    """It does not fit into the machine's memory, were it empty."""
    DISK = "disk"
    """Its files do not fit on the machine's disk."""
    RELEASED = "released"
    """It was tried there and given up a moment ago: no controller confirmed it, or it did not start."""
    GPUS_TAKEN = "gpus_taken"
    """Others have the GPUs."""
    MEMORY_TAKEN = "memory_taken"
    """Others have the memory."""
    CPUS_TAKEN = "cpus_taken"
    """Others have the processors, as Ray accounts them."""
    ENOUGH_NODES = "enough_nodes"
    """It runs on as many machines as the provider wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A living node."""

    id: UUID
    name: str
    state: NodeState
    seen_at: datetime | None
    """When its link was last up."""
    cpu_count: int
    """0 where it is not known, as in the next two."""
    memory_bytes: int
    disk_bytes: int = 0
    gpu_memory_bytes: tuple[int, ...] = ()
    """Of each GPU that can be used as a whole."""
    cached: frozenset[str] = frozenset()
    """Digests of the revisions whose files are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferWish:
    """An open offer that is to be placed."""

    id: UUID
    revision_id: UUID
    digest: str
    weights: Weights
    choices: Choices
    asked: int = 0
    """Requests for its model, lately: who is asked for goes first where there is not room for all."""
    unsellable: str = ""
    """Why it has no price; empty when it has one."""
    gives_way: frozenset[UUID] = frozenset()
    """Revisions that it takes the place of (`supply.rollouts`): what they take counts as free, for they will go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A row of `placement`."""

    node_id: UUID
    revision_id: UUID
    desired: bool
    state: PlacementState
    state_at: datetime
    """Since when it is in this state."""
    replicas_min: int
    replicas_max: int
    slots: int
    idle_s: int
    memory_bytes: int
    """Of one replica."""
    gpus: int
    retry_at: datetime | None
    """Until when it is not tried again, after it was given up."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Of one provider."""

    at: datetime
    """By the database's clock."""
    machines: tuple[Machine, ...]
    offers: tuple[OfferWish, ...]
    placed: Mapping[tuple[UUID, UUID], Placed]
    """By node and revision."""
    said: Mapping[tuple[UUID, UUID | None], Misfit] = field(default_factory=dict)
    """What is kept of why offers are not placed, by offer and node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A placement that should be."""

    node_id: UUID
    offer_id: UUID
    revision_id: UUID
    replicas_min: int
    replicas_max: int
    slots: int
    idle_s: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A machine on which an offer is not placed."""

    offer_id: UUID
    node_id: UUID | None
    """None where the provider has no machine at all."""
    misfit: Misfit
    detail: str
    """A sentence with value and limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every open offer on every machine is in exactly one of the first two."""

    wanted: tuple[Wanted, ...]
    rejected: tuple[Rejected, ...]
    given_up: tuple[Rejected, ...]
    """Of the rejected, those that were wanted until now: they are taken off the machine."""
