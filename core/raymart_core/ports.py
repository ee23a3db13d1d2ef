"""Ports: what `marketplace` needs of `billing`, so that the gateway never imports the ledger.

Wired in `raymart_graphql.app`. The gateway's use of them is the life of a request (docs/architecture.md): hold before
dispatch, record before the final byte, release when nothing was delivered.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from raymart_core.money import Money
from raymart_core.units import Fault, FinishReason


class HoldGate(Protocol):
    """Reserves money before work is dispatched."""

    async def hold(self, *, request_id: UUID, organization_id: UUID, amount: Money, ttl_s: float) -> None:
        """Reserve `amount` of the organization's balance for `request_id`; a repeat is a no-op.

        The hold voids itself `ttl_s` seconds later by the database's clock unless it was captured.
        Locks the organization's balance account for one statement. Raises: InsufficientFunds.
        """

    async def release(self, *, request_id: UUID) -> None:
        """Void the hold of `request_id`; a no-op when it is captured, voided or unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEntry:
    """What a request is billed, by the gateway's count. `customer_amount` = `provider_amount` + `fee_amount`."""

    provider_id: UUID
    endpoint_id: UUID
    offer_id: UUID
    revision_id: UUID
    tokens_prompt: int
    tokens_completion: int
    price_prompt_nano_usd: int
    price_completion_nano_usd: int
    customer_amount: Money
    provider_amount: Money
    fee_amount: Money
    exact: bool
    """Whether every token id was known; if not, the engine's running count was billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRequest:
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
    """None when nothing was delivered; then nothing is billed."""


class UsageSink(Protocol):
    """Keeps what was delivered and turns it into money."""

    async def record(self, request: FinishedRequest) -> None:
        """Return only when `request` is durable; its capture follows by itself. Idempotent on the request's id.

        When it carries no usage, its hold is voided. Raises: Unavailable when it could not be made durable in time;
        the caller must then not send the final byte.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """An offer's asks, in nano-USD per token."""

    prompt_nano_usd: int
    completion_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What the customer pays and how it is split: `customer` = `provider` + `fee`."""

    customer: Money
    provider: Money
    fee: Money


class Rater(Protocol):
    """Prices a request: pure functions of counts and prices."""

    def quote(self, *, tokens_prompt_max: int, tokens_completion_max: int, prices: TokenPrices) -> Money:
        """The upper bound that is held before dispatch; `rate` of any smaller counts never exceeds it."""

    def rate(self, *, tokens_prompt: int, tokens_completion: int, prices: TokenPrices) -> Charge:
        """The exact charge for what was delivered; the fee is rounded down, the provider gets the rest."""
