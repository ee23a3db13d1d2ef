"""What a gateway knows of one lease and of one spender. Plain numbers, no I/O; all amounts are nano-USD."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

NEVER = float("-inf")
"""A deadline that is over."""


class Payer(NamedTuple):
    """On whose account a request runs."""

    organization_id: UUID
    project_id: UUID
    api_key_id: UUID | None
    """None when a user's token made the request."""


class Giving(NamedTuple):
    """What is on its way back to the database; repeated with the same step until it has arrived."""

    step: int
    amount: int
    closes: bool


class Lease:
    """One lease: what was granted, less what was given back, reserved and spent, is available.

    Counters only ever grow, except `reserved`. What was posted needs no subtraction: it left `held` in the database and
    "unposted" here by the same amount.
    """

    __slots__ = (
        "answered",
        "charged",
        "closing",
        "confirmed_at",
        "deadline",
        "giving",
        "granted",
        "id",
        "recalled",
        "reserved",
        "returned",
        "seen_settled",
        "settled",
        "settled_when_used",
        "single_use",
        "spender",
        "step",
        "turn",
        "used_at",
    )

    def __init__(self, lease_id: UUID, spender: "Spender", *, single_use: bool = False) -> None:
        self.id = lease_id
        self.spender = spender
        self.single_use = single_use
        self.granted = self.returned = self.reserved = self.settled = self.charged = self.seen_settled = 0
        self.deadline = NEVER
        """Until when it admits, on the loop's clock."""
        self.step = 0
        """Number of the last change that the database confirmed."""
        self.closing = False
        """Admits nothing more; goes back as its requests end."""
        self.recalled = self.answered = False
        self.giving: Giving | None = None
        self.confirmed_at: float | None = None
        """When the database was first known to have it, on the loop's clock."""
        self.used_at = 0.0
        """When the keeper last saw that it was in use."""
        self.settled_when_used = 0
        self.turn = asyncio.Lock()
        """Held by whoever changes it in the database."""

    @property
    def available(self) -> int:
        """What may still be reserved."""
        return self.granted - self.returned - self.reserved - self.settled

    @property
    def is_idle(self) -> bool:
        """Whether no request runs under it and all its usage is posted."""
        return not self.reserved and self.settled <= self.charged

    def close(self) -> None:
        """Admit nothing more."""
        self.closing = True
        self.deadline = NEVER
        if self.spender.lease is self:
            self.spender.lease = None


class Reservation(NamedTuple):
    """What a running request may cost at most."""

    lease: Lease
    amount: int
    drop_at: float
    """When it is forgotten if nobody says how the request ended, on the loop's clock."""


@dataclass(slots=True)
class Waiter:
    """A request that waits for its spender's lease to grow; gets the lease, or None: it must try for itself."""

    request_id: UUID
    amount: int
    ttl_s: float
    admitted: "asyncio.Future[Lease | None]"


class Spender:
    """Requests that count against the same balance and budgets, and so can share a lease."""

    __slots__ = (
        "budgets",
        "burn",
        "grown_at",
        "growth",
        "lease",
        "no_growth_until",
        "payer",
        "payers",
        "per_request_until",
        "slice",
        "waiters",
    )

    def __init__(self, payer: Payer, budgets: frozenset[UUID], *, slice_min: int) -> None:
        self.payer = payer
        """One of those it stands for; each gives the same budgets."""
        self.payers: set[Payer] = set()
        """All that are known."""
        self.budgets = budgets
        self.lease: Lease | None = None
        self.waiters: deque[Waiter] = deque()
        self.growth: asyncio.Task[None] | None = None
        self.grown_at = NEVER
        self.no_growth_until = NEVER
        self.per_request_until = NEVER
        self.burn = 0.0
        """Exponentially weighted spending, nano-USD per second."""
        self.slice = slice_min
        """What to ask for at once."""

    def resize(self, spent: int, over_s: float, *, horizon_s: float, slice_min: int, slice_max: int) -> None:
        """Take note that `spent` was charged in the last `over_s` seconds, and size the slice to the horizon."""
        self.burn += (spent / over_s - self.burn) / 2
        self.slice = min(max(int(self.burn * horizon_s), slice_min), slice_max)
