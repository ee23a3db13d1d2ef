"""The planner: a pure function from a provider's machines, offers and placements to what should run where, and why not.

Invariants:
- The same snapshot gives the same plan, in whatever order its parts come; a plan that was carried out is planned again.
- What runs stays where it is, as long as it is allowed there: nothing moves for a better place.
- A machine that is away keeps its placements. One that is away for long, or where an offer fails, gives it up only when
  the provider wants the offer on fewer machines than it has, and another one can take it.
- Each offer on each machine is placed or rejected, with one named reason.

First comes what is always loaded, of that what runs already, then who is asked for most; then what sleeps, which only
needs to fit beside what is loaded.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from raymart_marketplace.supply.models import NodeState, PlacementState, Warmth
from raymart_marketplace.supply.planning.choices import may_run, opens_at
from raymart_marketplace.supply.planning.fit import Footprint, footprint
from raymart_marketplace.supply.planning.room import Room
from raymart_marketplace.supply.planning.snapshot import (
    Machine,
    Misfit,
    OfferWish,
    Placed,
    Plan,
    Rejected,
    Snapshot,
    Wanted,
)

SLOTS = (4, 2, 1)
"""Generations at once of a new placement: the first with which it fits."""
OFFLINE_PATIENCE = timedelta(minutes=10)
"""How long a machine may be away before another one is preferred to it."""
FAILURE_PATIENCE = timedelta(minutes=1)
"""How long a placement may be failed before another machine is preferred."""
START_PATIENCE = timedelta(minutes=30)
"""How long a placement may load: the largest models take a quarter of an hour to fetch."""

Verdict = tuple[Misfit, str]


def plan(snapshot: Snapshot) -> Plan:
    """What should run where."""
    rooms = {machine.id: Room(machine) for machine in snapshot.machines}
    _seat_others(snapshot, rooms)
    wanted: list[Wanted] = []
    rejected: list[Rejected] = []
    for offer in sorted(snapshot.offers, key=lambda offer: _urgency(snapshot, offer)):
        if not rooms:
            detail = "the provider has no machine; join one"
            rejected.append(Rejected(offer_id=offer.id, node_id=None, misfit=Misfit.NO_NODE, detail=detail))
        placed, refused = _place(snapshot, offer, rooms)
        wanted += placed
        rejected += refused
    rejected.sort(key=lambda each: (each.offer_id, each.node_id or each.offer_id))
    return Plan(
        wanted=tuple(sorted(wanted, key=lambda each: (each.node_id, each.revision_id))),
        rejected=tuple(rejected),
        given_up=tuple(each for each in rejected if _was_wanted(snapshot, each)),
    )


def stays_loaded(offer: OfferWish) -> bool:
    """Whether a replica of it is to be ready before anybody asks."""
    match offer.choices.warmth:
        case Warmth.WARM:
            return True
        case Warmth.ON_DEMAND:
            return False
        case Warmth.AUTO:
            return offer.asked > 0


def _seat_others(snapshot: Snapshot, rooms: dict[UUID, Room]) -> None:
    """What is placed and not ours to plan (offers that pause or give way) keeps its part."""
    planned = {offer.revision_id for offer in snapshot.offers}
    for placed in snapshot.placed.values():
        if placed.desired and placed.revision_id not in planned and placed.node_id in rooms:
            rooms[placed.node_id].take(
                placed.revision_id,
                memory_bytes=placed.memory_bytes,
                gpus=placed.gpus,
                replicas=placed.replicas_min,
            )


def _urgency(snapshot: Snapshot, offer: OfferWish) -> tuple[bool, bool, int, UUID]:
    runs = any(
        placed.desired and placed.revision_id == offer.revision_id for placed in snapshot.placed.values()
    )
    return not stays_loaded(offer), not runs, -offer.asked, offer.id


def _place(
    snapshot: Snapshot, offer: OfferWish, rooms: dict[UUID, Room]
) -> tuple[list[Wanted], list[Rejected]]:
    """Lay one offer on the machines, best first, and take its part of them."""
    wanted: list[Wanted] = []
    rejected: list[Rejected] = []
    nodes_max = len(rooms) if offer.choices.nodes_max is None else offer.choices.nodes_max
    for room in sorted(rooms.values(), key=lambda room: _preference(snapshot, offer, room.machine)):
        found: Wanted | Verdict
        if len(wanted) >= nodes_max:
            found = Misfit.ENOUGH_NODES, f"runs on {nodes_max} machines, as many as the provider wants"
        else:
            found = _verdict(snapshot, offer, room.machine) or _seat(snapshot, offer, room)
        if isinstance(found, Wanted):
            wanted.append(found)
        else:
            rejected.append(
                Rejected(offer_id=offer.id, node_id=room.machine.id, misfit=found[0], detail=found[1])
            )
    return wanted, rejected


def _preference(snapshot: Snapshot, offer: OfferWish, machine: Machine) -> tuple[bool, bool, bool, bool, str]:
    """Sorts the best machine for the offer first."""
    placed = snapshot.placed.get((machine.id, offer.revision_id))
    stands = placed is not None and placed.desired
    return (
        _is_away(snapshot, machine),
        placed is not None and stands and _fails(snapshot, placed),
        not stands,
        offer.digest not in machine.cached,
        machine.name,
    )


def _is_away(snapshot: Snapshot, machine: Machine) -> bool:
    if machine.state is not NodeState.OFFLINE:
        return False
    return machine.seen_at is None or snapshot.at - machine.seen_at > OFFLINE_PATIENCE


def _fails(snapshot: Snapshot, placed: Placed) -> bool:
    age = snapshot.at - placed.state_at
    return (placed.state is PlacementState.FAILED and age > FAILURE_PATIENCE) or (
        placed.state is PlacementState.PLACING and age > START_PATIENCE
    )


def _verdict(snapshot: Snapshot, offer: OfferWish, machine: Machine) -> Verdict | None:
    """Why the offer may not be on the machine, whatever else is there."""
    choices = offer.choices
    placed = snapshot.placed.get((machine.id, offer.revision_id))
    stands = placed is not None and placed.desired
    if choices.node_ids and machine.id not in choices.node_ids:
        return Misfit.NODE_NOT_CHOSEN, "the provider named other machines for it"
    if not may_run(choices, snapshot.at):
        at = opens_at(choices, snapshot.at)
        return Misfit.OUTSIDE_HOURS, f"the provider's hours begin {at:%A %H:%M} UTC" if at else "no hours"
    # What is there already stays loaded: a machine that drains serves at once when it is back, and prices come and go.
    return None if stands else _may_come(snapshot, offer, machine, placed)


def _may_come(
    snapshot: Snapshot, offer: OfferWish, machine: Machine, placed: Placed | None
) -> Verdict | None:
    """Why the offer may not be brought to the machine."""
    if machine.state is NodeState.DRAINING:
        return Misfit.NODE_DRAINING, f"{machine.name} is draining"
    if offer.unsellable:
        return Misfit.UNSELLABLE, f"cannot be sold: {offer.unsellable}"
    size, room = offer.weights.size_bytes or 0, machine.disk_bytes
    if room and size > room and offer.digest not in machine.cached:
        return (
            Misfit.DISK,
            f"its files have {size / 1e9:.1f} GB; the disk of {machine.name} {room / 1e9:.1f} GB",
        )
    if placed is not None and placed.retry_at is not None and snapshot.at < placed.retry_at:
        return (
            Misfit.RELEASED,
            f"{placed.reason or 'given up'}; tried again at {placed.retry_at:%H:%M:%S} UTC",
        )
    return None


def _seat(snapshot: Snapshot, offer: OfferWish, room: Room) -> Wanted | Verdict:
    """Take a part of the machine for the offer, or say why there is none."""
    placed = snapshot.placed.get((room.machine.id, offer.revision_id))
    stands = placed is not None and placed.desired
    # A change of slots would replace what runs.
    tries = (placed.slots,) if placed is not None and stands else SLOTS
    found: Verdict | None = None
    for slots in tries:
        need = footprint(offer.weights, slots=slots)
        found = room.never(need, gpus_max=offer.choices.gpus_max) or room.now(
            need, asleep=not stays_loaded(offer), giving_way=offer.gives_way
        )
        if found is None:
            return _seated(offer, room, need, slots=slots)
    assert found is not None
    return found


def _seated(offer: OfferWish, room: Room, need: Footprint, *, slots: int) -> Wanted:
    at_most = offer.choices.replicas_max
    if need.gpus and offer.choices.gpus_max is not None:
        at_most = max(1, min(at_most, offer.choices.gpus_max // need.gpus))
    most = room.replicas(need, at_most=at_most, giving_way=offer.gives_way)
    least = 1 if stays_loaded(offer) else 0
    room.take(offer.revision_id, memory_bytes=need.memory_bytes, gpus=need.gpus, replicas=least)
    return Wanted(
        node_id=room.machine.id,
        offer_id=offer.id,
        revision_id=offer.revision_id,
        replicas_min=least,
        replicas_max=most,
        slots=slots,
        idle_s=offer.choices.idle_s,
        memory_bytes=need.memory_bytes,
        gpus=need.gpus,
    )


def _was_wanted(snapshot: Snapshot, rejected: Rejected) -> bool:
    if rejected.node_id is None:
        return False
    revision_id = _revision_of(snapshot.offers, rejected.offer_id)
    placed = snapshot.placed.get((rejected.node_id, revision_id))
    return placed is not None and placed.desired


def _revision_of(offers: Sequence[OfferWish], offer_id: UUID) -> UUID:
    return next(offer.revision_id for offer in offers if offer.id == offer_id)
