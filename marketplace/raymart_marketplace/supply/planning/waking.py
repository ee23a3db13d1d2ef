"""Which placements are worth waking for what waits: a pure function, so that every process decides alike."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.room import MEMORY_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeper:
    """A wanted placement of an offer that somebody waits for, asleep or not."""

    placement_id: UUID
    pool_id: UUID
    node_id: UUID
    offer_id: UUID
    revision_digest: str
    replicas_min: int
    replicas_max: int
    running: int
    """Replicas that are ready."""
    failed: bool
    slots: int
    memory_bytes: int
    """Of one replica."""
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """What a machine has, and what its placements that are awake take of it."""

    memory_bytes: int
    """0 where it is not known."""
    gpus: int
    memory_taken_bytes: int
    gpus_taken: int


def wakes(
    demand: Demand, sleepers: Iterable[Sleeper], nodes: Mapping[UUID, NodeLoad]
) -> Mapping[UUID, float]:
    """Replicas' worth of work by placement: of requests that wait for an offer, and of full queues that a sleeper could share.

    What runs or was woken already is filled before the next one is woken: all of one offer's wait for the same placement,
    until it is full, fails, or its machine has no memory left.
    """
    room = {node_id: _Room.of(load) for node_id, load in nodes.items()}
    by_offer: dict[UUID, list[Sleeper]] = defaultdict(list)
    by_revision: dict[str, list[Sleeper]] = defaultdict(list)
    for sleeper in sleepers:
        by_offer[sleeper.offer_id].append(sleeper)
        by_revision[sleeper.revision_digest].append(sleeper)
    found: dict[UUID, float] = defaultdict(float)
    for offer_hex, count in sorted(demand.waiting.items()):
        _assign(count, by_offer.get(UUID(offer_hex), ()), room, found)
    for digest, count in sorted(demand.queued.items()):
        asleep = [each for each in by_revision.get(digest, ()) if each.running == 0]
        # A queue shorter than a replica's slots is gone before another replica has loaded.
        if asleep and count >= asleep[0].slots:
            _assign(count, asleep, room, found)
    return dict(found)


def _assign(
    count: int, sleepers: Sequence[Sleeper], room: Mapping[UUID, "_Room"], found: dict[UUID, float]
) -> None:
    left = float(count)
    for sleeper in sorted(sleepers, key=lambda each: (each.failed, each.running == 0, each.placement_id)):
        if left <= 0:
            return
        machine = room.get(sleeper.node_id)
        if sleeper.running == 0 and (machine is None or not machine.takes(sleeper)):
            continue
        share = min(left / sleeper.slots, float(sleeper.replicas_max))
        found[sleeper.placement_id] = min(found[sleeper.placement_id] + share, float(sleeper.replicas_max))
        left -= share * sleeper.slots


@dataclass(slots=True)
class _Room:
    """What is left of a machine while placements are woken."""

    memory_bytes: int | None
    gpus: int
    woken: set[UUID]

    @classmethod
    def of(cls, load: NodeLoad) -> "_Room":
        memory = int(load.memory_bytes * MEMORY_SHARE) - load.memory_taken_bytes
        return cls(
            memory_bytes=memory if load.memory_bytes else None, gpus=load.gpus - load.gpus_taken, woken=set()
        )

    def takes(self, sleeper: Sleeper) -> bool:
        """Take a replica's part for it, once; whether there is room."""
        if sleeper.placement_id in self.woken:
            return True
        if sleeper.gpus > self.gpus:
            return False
        if self.memory_bytes is not None:
            if sleeper.memory_bytes > self.memory_bytes:
                return False
            self.memory_bytes -= sleeper.memory_bytes
        self.gpus -= sleeper.gpus
        self.woken.add(sleeper.placement_id)
        return True
