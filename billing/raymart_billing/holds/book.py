"""What a gateway process knows of its leases: who spends from which, and what is reserved. In memory, one event loop."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

from raymart_billing.holds.lease import Lease, Payer, Reservation, Spender
from raymart_billing.holds.limits import LeaseLimits
from raymart_core.money import Money


class LeaseBook:
    """Implements `Settlements`. A single thread's state: no call waits, so none sees another half done."""

    def __init__(self, limits: LeaseLimits) -> None:
        self._limits = limits
        self.leases: dict[UUID, Lease] = {}
        """By id, from the moment one is asked for until the database has closed it."""
        self.reservations: dict[UUID, Reservation] = {}
        """By request, oldest first."""
        self.payers: dict[Payer, Spender] = {}
        self.attention = asyncio.Event()
        """Set when the keeper has something to give back."""
        self.changes = 0
        """How often budgets may have changed; who looked them up meanwhile looks again."""
        self._spenders: dict[UUID, dict[frozenset[UUID], Spender]] = {}
        """By organization and budgets."""

    # Settlements

    def settled(self, request_id: UUID, charge: Money) -> None:
        """From now only `charge` counts of what the request reserved."""
        reservation = self.reservations.pop(request_id, None)
        if reservation is None:
            return
        lease = reservation.lease
        lease.reserved -= reservation.amount
        lease.settled += charge.amount
        if lease.closing:
            self.attention.set()

    def released(self, request_id: UUID) -> None:
        """The request used nothing; what it reserved is available again."""
        reservation = self.reservations.pop(request_id, None)
        if reservation is None:
            return
        lease = reservation.lease
        lease.reserved -= reservation.amount
        if lease.single_use:
            lease.close()
        if lease.closing:
            self.attention.set()

    def posted(self, lease_id: UUID, amount: int) -> None:
        """The ledger took `amount` of usage from the lease."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return
        lease.charged += amount
        if lease.single_use:
            del self.leases[lease_id]  # Its capture has closed it.
        elif lease.closing:
            self.attention.set()

    # Admission

    def reserve(self, lease: Lease, request_id: UUID, amount: int, drop_at: float) -> None:
        """Set `amount` of the lease aside for the request."""
        lease.reserved += amount
        self.reservations[request_id] = Reservation(lease, amount, drop_at)

    def spender(self, payer: Payer, budgets: frozenset[UUID]) -> Spender:
        """The spender of `payer`, known from now on."""
        if len(self.payers) >= self._limits.payers_max:
            oldest = next(iter(self.payers))
            self.payers.pop(oldest).payers.discard(oldest)
        spenders = self._spenders.setdefault(payer.organization_id, {})
        spender = spenders.get(budgets)
        if spender is None:
            spender = Spender(payer, budgets, slice_min=self._limits.slice_min)
            spenders[budgets] = spender
        spender.payers.add(payer)
        self.payers[payer] = spender
        return spender

    # Upkeep

    def forget_organization(self, organization_id: UUID, *, recalled: bool) -> None:
        """Admit nothing more under the organization's leases; its budgets are looked up anew."""
        self.changes += 1
        for spender in self._spenders.pop(organization_id, {}).values():
            for payer in spender.payers:
                del self.payers[payer]
            spender.payers.clear()
        for lease in self.leases.values():
            if lease.spender.payer.organization_id == organization_id and not lease.single_use:
                lease.close()
                lease.recalled |= recalled
        self.attention.set()

    def forget_all(self) -> None:
        """Trust nothing that is remembered: what happened while nobody listened is not known."""
        self.changes += 1
        for organization_id in list(self._spenders):
            self.forget_organization(organization_id, recalled=False)

    def forget_idle_spenders(self) -> None:
        """Forget spenders that have neither lease nor waiting requests."""
        for organization_id, spenders in list(self._spenders.items()):
            if all(spender.lease is None and spender.growth is None for spender in spenders.values()):
                self.forget_organization(organization_id, recalled=False)

    def drop_overdue(self, now: float) -> int:
        """Forget reservations that nobody settled in time; returns how many.

        The oldest come first, and all of a process live equally long, so this looks at one more than it drops.
        """
        dropped = 0
        while self.reservations:
            request_id, reservation = next(iter(self.reservations.items()))
            if reservation.drop_at > now:
                break
            self.released(request_id)
            dropped += 1
        return dropped

    def open_spenders(self) -> Iterator[Spender]:
        """Every spender that is known."""
        for spenders in self._spenders.values():
            yield from spenders.values()
