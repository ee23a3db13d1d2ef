"""Ports: what `marketplace` needs of `billing`, so that the gateway never imports the ledger.

What is made for every request is a struct: made in a sixth of a dataclass's time, encoded in two fifths (ADR 0014).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Literal, Protocol
from uuid import UUID

from msgspec import Struct

from raymart_core.money import AMOUNT_MAX, ZERO, Money
from raymart_core.units import Fault, FinishReason, Unit


class HoldGate(Protocol):
    """Reserves money before work is dispatched."""

    async def hold(
        self,
        *,
        request_id: UUID,
        organization_id: UUID,
        project_id: UUID,
        api_key_id: UUID | None,
        amount: Money,
        ttl_s: float,
    ) -> UUID:
        """Reserve `amount` (more than 0) of balance and budgets for `request_id`; returns the lease that pays.

        A repeat returns the same. Unless it is settled or released, it is available again `ttl_s` seconds later. A call
        that raises or is cancelled leaves nothing reserved.
        Raises: InsufficientFunds (its subclass, where a budget is short), Forbidden (blocked), Unavailable.
        """

    async def release(self, *, request_id: UUID) -> None:
        """Give back what `request_id` reserved; a no-op when it is settled, released or unknown."""


class AttemptRecord(Struct, frozen=True, kw_only=True, gc=False):
    """One try of a request on one endpoint."""

    id: UUID
    endpoint_id: UUID
    provider_id: UUID
    node_id: UUID
    outcome: Literal["delivered", "failed", "cancelled"]
    fault: Fault
    reason: str
    """Short cause for operators; no prompt, no text."""
    tokens_delivered: int
    started_at: datetime
    first_token_ms: int | None
    duration_ms: int


_NUMBERS: Callable[["ByUnit"], tuple[int, ...]] = attrgetter(*(unit.name.lower() for unit in Unit))


class ByUnit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole number from 0 to `AMOUNT_MAX` for each `Unit`, in a field named like its member. Raises: ValueError."""

    token_prompt: int = 0
    token_completion: int = 0
    token_cached: int = 0
    image_megapixel_step: int = 0
    gpu_second: int = 0
    request: int = 0

    def __post_init__(self) -> None:
        for number in _NUMBERS(self):
            if type(number) is not int or not 0 <= number <= AMOUNT_MAX:
                raise ValueError(f"{number!r} is no whole number from 0 to {AMOUNT_MAX}, in {self}")

    def items(self) -> Iterable[tuple[Unit, int]]:
        """Each unit with its number."""
        return zip(Unit, _NUMBERS(self), strict=True)


class Prices(ByUnit, frozen=True):
    """Nano-USD per unit."""


class Quantities(ByUnit, frozen=True):
    """What was measured; `Unit.scale` of it makes one unit."""


class UsageEntry(Struct, frozen=True, kw_only=True, gc=False):
    """What a request is billed, by the gateway's count. `customer_amount` = `provider_amount` + `fee_amount`."""

    provider_id: UUID
    endpoint_id: UUID
    offer_id: UUID
    revision_id: UUID
    quantities: Quantities
    prices: Prices
    customer_amount: Money
    provider_amount: Money
    fee_amount: Money
    exact: bool
    """Whether every token id was known; if not, the engine's running count was billed."""


class FinishedRequest(Struct, frozen=True, kw_only=True, gc=False):
    """Everything that is kept of a request: written once, at its end, before the final byte."""

    id: UUID
    organization_id: UUID
    project_id: UUID
    api_key_id: UUID | None
    """None when a user's JWT made the request."""
    user_id: UUID | None
    surface: Literal["rest", "graphql"]
    model_asked: str
    model_served: str
    state: Literal["completed", "failed", "cancelled"]
    finish_reason: FinishReason | None
    error_code: str | None
    streamed: bool
    created_at: datetime
    first_token_ms: int | None
    duration_ms: int
    attempts: tuple[AttemptRecord, ...]
    usage: UsageEntry | None
    """What was delivered, or its first part; None when nothing was, and then nothing is billed."""
    lease_id: UUID | None = None
    """The lease that pays, as `HoldGate.hold` named it; None for what is free."""
    more: tuple[UsageEntry, ...] = ()
    """The later parts, at most 31, each of an endpoint that went on where the one before broke off: only completion tokens."""

    @property
    def parts(self) -> tuple[UsageEntry, ...]:
        """All that is billed, in the order of its delivery."""
        return () if self.usage is None else (self.usage, *self.more)

    @property
    def charge(self) -> Money:
        """What the customer pays for all parts."""
        if self.usage is None:
            return ZERO
        if not self.more:  # As nearly always.
            return self.usage.customer_amount
        return sum((entry.customer_amount for entry in self.more), self.usage.customer_amount)


class RunningRequest(Protocol):
    """A stream under way, as the usage sink looks at it now and then."""

    @property
    def id(self) -> UUID:
        """The request's id."""

    @property
    def tokens_delivered(self) -> int:
        """How many tokens the customer was handed so far."""

    def if_lost(self) -> FinishedRequest | None:
        """What to record if this process ended now; None once its record is decided."""


class UsageSink(Protocol):
    """Keeps what was delivered and turns it into money."""

    def watch(self, running: RunningRequest) -> None:
        """Checkpoint `running` about once a second until its `record` is called: that is billed if this process dies."""

    async def record(self, request: FinishedRequest) -> None:
        """Return only when `request` is durable; its capture follows by itself. Idempotent on the request's id.

        When it carries no usage, what it reserved is available again. Raises: Unavailable when it could not be made durable in time;
        the caller must then not send the final byte.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What the customer pays and how it is split: `customer` = `provider` + `fee`."""

    customer: Money
    provider: Money
    fee: Money


class Rater(Protocol):
    """Prices a request: pure functions of quantities and prices."""

    def quote(self, quantities_max: Quantities, prices: Prices) -> Money:
        """The most that `rate` can charge, however much of the prompt is cached. Raises: InvalidRequest when too huge."""

    def rate(self, quantities: Quantities, prices: Prices, *, fee_basis_points: int) -> Charge:
        """The exact charge; each unit's amount and the fee are rounded down, the provider gets the rest."""
