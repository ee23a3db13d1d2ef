"""The states that are followed, as they were read. One object is shown to all who follow it."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from raymart_marketplace.supply import models as supply


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """Sums of one key and model in a day."""

    api_key_id: UUID | None
    model_id: UUID
    model_slug: str
    requests: int
    tokens_prompt: int
    tokens_completion: int
    amount_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was made of it, for all who are shown it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageState(_Shown):
    """A customer's usage of the current day in UTC, as far as it is posted."""

    organization_id: UUID
    day: date
    lines: tuple[UsageLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceState(_Shown):
    """A customer's balance, nano-USD."""

    organization_id: UUID
    posted: int
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A machine of a provider."""

    node_id: UUID
    name: str
    state: supply.NodeState
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesState(_Shown):
    """All living machines of a provider, by name."""

    provider_id: UUID
    nodes: tuple[NodeState, ...]


State = UsageState | BalanceState | NodesState
