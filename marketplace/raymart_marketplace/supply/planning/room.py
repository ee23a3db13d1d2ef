"""What is free on a machine while placements are laid on it. Mutable, for one plan."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from raymart_marketplace.supply.planning.fit import GIB, Footprint
from raymart_marketplace.supply.planning.snapshot import Machine, Misfit

MEMORY_SHARE = 0.9
"""Of a machine's memory that replicas may have; the rest is the system's, Ray's and the agent's."""
REPLICA_CPUS = 0.5
"""What a replica asks of Ray's accounting; its threads are bounded by the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seat:
    revision_id: UUID
    memory_bytes: int
    gpus: int
    cpus: float


class Room:
    """One machine. What sleeps takes a seat of nothing: it is woken only while there is room for it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._seats: list[_Seat] = []

    def take(self, revision_id: UUID, *, memory_bytes: int, gpus: int, replicas: int) -> None:
        """Give a placement its part, whether there is room or not."""
        self._seats.append(
            _Seat(
                revision_id=revision_id,
                memory_bytes=memory_bytes * replicas,
                gpus=gpus * replicas,
                cpus=REPLICA_CPUS * replicas,
            )
        )

    def never(self, need: Footprint, *, gpus_max: int | None) -> tuple[Misfit, str] | None:
        """Why a replica would not fit even on the empty machine."""
        machine = self.machine
        if need.gpus:
            have = len(machine.gpu_memory_bytes)
            if gpus_max is not None and need.gpus > gpus_max:
                return Misfit.NO_GPUS, f"needs {need.gpus} GPUs; the provider gives it {gpus_max}"
            if need.gpus > have:
                return Misfit.NO_GPUS, f"needs {need.gpus} GPUs; {machine.name} has {have}"
            # The smallest of the largest ones decides: the model is spread over them evenly.
            smallest = sorted(machine.gpu_memory_bytes, reverse=True)[need.gpus - 1]
            if need.gpu_memory_bytes > smallest:
                return Misfit.GPU_MEMORY, (
                    f"needs {_gib(need.gpu_memory_bytes)} on each of {need.gpus} GPUs; {machine.name} has {_gib(smallest)}"
                )
        if machine.memory_bytes and need.memory_bytes > self._memory_budget:
            return Misfit.MEMORY, (
                f"needs {_gib(need.memory_bytes)}; replicas may have {_gib(self._memory_budget)} of {machine.name}"
            )
        return None

    def now(
        self, need: Footprint, *, asleep: bool, giving_way: Collection[UUID]
    ) -> tuple[Misfit, str] | None:
        """Why a replica does not fit beside what was laid on the machine so far. None when it does."""
        machine, seats = self.machine, [seat for seat in self._seats if seat.revision_id not in giving_way]
        gpus = len(machine.gpu_memory_bytes) - sum(seat.gpus for seat in seats)
        if need.gpus > gpus:
            return Misfit.GPUS_TAKEN, f"needs {need.gpus} GPUs; {max(0, gpus)} of {machine.name} are free"
        memory = self._memory_budget - sum(seat.memory_bytes for seat in seats)
        if machine.memory_bytes and need.memory_bytes > memory:
            return Misfit.MEMORY_TAKEN, (
                f"needs {_gib(need.memory_bytes)}; {_gib(max(0, memory))} of {machine.name} are free"
            )
        cpus = machine.cpu_count - sum(seat.cpus for seat in seats)
        if machine.cpu_count and not asleep and cpus < REPLICA_CPUS:
            return (
                Misfit.CPUS_TAKEN,
                f"needs {REPLICA_CPUS:g} CPU; {max(0.0, cpus):g} of {machine.name} are free",
            )
        return None

    def replicas(self, need: Footprint, *, at_most: int, giving_way: Collection[UUID]) -> int:
        """How many replicas there is room for, 1 to `at_most`."""
        machine, seats = self.machine, [seat for seat in self._seats if seat.revision_id not in giving_way]
        count = at_most
        if need.gpus:
            count = min(
                count, (len(machine.gpu_memory_bytes) - sum(seat.gpus for seat in seats)) // need.gpus
            )
        if machine.memory_bytes and need.memory_bytes:
            free = self._memory_budget - sum(seat.memory_bytes for seat in seats)
            count = min(count, free // need.memory_bytes)
        return max(1, count)

    @property
    def _memory_budget(self) -> int:
        return int(self.machine.memory_bytes * MEMORY_SHARE)


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"
