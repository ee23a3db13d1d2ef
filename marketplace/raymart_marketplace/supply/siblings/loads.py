"""How much runs where, told between siblings: what nodes report, and what each process itself has under way.

A node reports once a second to one process. What a process sends off counts with its siblings after `TELL_EVERY_S`, also
at direct endpoints, of which no node reports. Within that time several processes can take the same free slot; the replica
then queues or refuses, as it does where one process is wrong about it.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar
from uuid import UUID

from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.siblings.wire import Loads

TELL_EVERY_S = 0.2
"""How old what is known of a sibling's load may be."""

Counts = Mapping[UUID, Mapping[str, int]]
"""Requests by node and replica."""
Teller = TypeVar("Teller", bound=Hashable)


class SharedLoads(Generic[Teller]):
    """What was told to siblings, and by them."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._reported: dict[UUID, dict[str, int]] = {}
        """By own nodes, and not told yet."""
        self._busy: set[UUID] = set()
        """Own nodes of which it was told last that something runs."""
        self._told: dict[tuple[UUID, str], int] = {}
        self._heard: dict[Teller, dict[UUID, Counter[str]]] = {}

    def reported(self, node_id: UUID, running: dict[str, int]) -> None:
        """A node of this process said what it runs."""
        # An idle node has nothing to tell, but for the first time.
        if running or node_id in self._busy:
            self._reported[node_id] = running

    def gone(self, node_id: UUID) -> None:
        """The node is none of this process's any more."""
        self._reported.pop(node_id, None)
        self._busy.discard(node_id)

    def everything(self) -> Loads:
        """For a sibling that knows nothing: what it was not told."""
        leased: dict[UUID, dict[str, int]] = {}
        for (node_id, replica_id), count in self._told.items():
            leased.setdefault(node_id, {})[replica_id] = count
        return Loads(running={}, leased=leased)

    def news(self) -> Loads | None:
        """What has changed since the last time; None where nothing has."""
        reported, self._reported = self._reported, {}
        for node_id, running in reported.items():
            (self._busy.add if running else self._busy.discard)(node_id)
        before, self._told = self._told, self._leased()
        leased: dict[UUID, dict[str, int]] = {}
        for place in before.keys() | self._told.keys():
            count = self._told.get(place, 0)
            if count != before.get(place, 0):
                leased.setdefault(place[0], {})[place[1]] = count
        return Loads(running=reported, leased=leased) if reported or leased else None

    def hear(self, teller: Teller, leased: Counts) -> None:
        """A sibling has so many requests there now."""
        of_teller = self._heard.setdefault(teller, {})
        for node_id, replicas in leased.items():
            # Unary plus leaves out what has none.
            counts = +Counter({**of_teller.pop(node_id, {}), **replicas})
            if counts:
                of_teller[node_id] = counts
            self.count(node_id)

    def forget(self, teller: Teller) -> None:
        """The sibling is gone, with its requests."""
        for node_id in self._heard.pop(teller, {}):
            self.count(node_id)

    def count(self, node_id: UUID) -> None:
        """Tell the directory what all siblings have at the node; also when it knows the node's replicas anew."""
        total: Counter[str] = Counter()
        for of_teller in self._heard.values():
            total.update(of_teller.get(node_id, {}))
        self._directory.leased_elsewhere(node_id, total)

    def _leased(self) -> dict[tuple[UUID, str], int]:
        return {
            (node_id, replica_id): count
            for node_id, replicas in self._directory.leased().items()
            for replica_id, count in replicas.items()
        }
