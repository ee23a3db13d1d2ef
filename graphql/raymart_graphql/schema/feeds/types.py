"""Events of the feeds. Each is made once and shown to all who follow it, so every field is plain: the same for everybody."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql import feeds
from raymart_graphql.enums import NodeState
from raymart_graphql.execution import SharedEvent
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import BigInt, Money


@strawberry.type(description="Sums of usage with one key and one model.")
class UsageTickLine:
    """Of a day so far, or of what was added since the tick before."""

    api_key_id: strawberry.ID | None = strawberry.field(
        description="The key; null for what people asked with a token of their own."
    )
    model_id: strawberry.ID = strawberry.field(description="The model that served it.")
    model_slug: str = strawberry.field(description="Its name in requests.")
    requests: BigInt = strawberry.field(description="Requests that were billed.")
    tokens_prompt: BigInt = strawberry.field(description="Tokens of prompts, cached ones included.")
    tokens_completion: BigInt = strawberry.field(description="Generated tokens that were delivered.")
    amount: Money = strawberry.field(description="What the customer was charged.")

    @classmethod
    def of(cls, line: feeds.UsageLine) -> "UsageTickLine":
        """`line` as the API shows it."""
        return cls(
            api_key_id=None if line.api_key_id is None else global_id(Prefix.API_KEY, line.api_key_id),
            model_id=global_id(Prefix.MODEL, line.model_id),
            model_slug=line.model_slug,
            requests=BigInt(line.requests),
            tokens_prompt=BigInt(line.tokens_prompt),
            tokens_completion=BigInt(line.tokens_completion),
            amount=Money.of_nano_usd(line.amount_nano_usd),
        )


@strawberry.type(description="An organization's usage of the current day, and what was added to it.")
class UsageTick(SharedEvent):
    """State and change: a client that reconnects goes on from the state and has missed nothing."""

    organization_id: strawberry.ID = strawberry.field(description="Whose usage.")
    day: date = strawberry.field(description="The day in UTC; with a new day the sums begin anew.")
    lines: list[UsageTickLine] = strawberry.field(
        description="Sums of the day so far by key and model, as far as the ledger has them."
    )
    added: list[UsageTickLine] = strawberry.field(
        description="What was added since the tick before; empty in a subscription's first."
    )
    made: strawberry.Private[dict[Any, Any]]

    @classmethod
    def of(cls, state: feeds.UsageState, previous: feeds.UsageState | None) -> "UsageTick":
        """`state` after `previous`, which is what the follower was shown before."""
        return cls(
            organization_id=global_id(Prefix.ORGANIZATION, state.organization_id),
            day=state.day,
            lines=[UsageTickLine.of(line) for line in state.lines],
            added=[UsageTickLine.of(line) for line in added(state, previous)] if previous else [],
            made={},
        )


@strawberry.type(description="What an organization has to spend at a moment.")
class BalanceTick(SharedEvent):
    """`available` = `posted` - `pending`."""

    organization_id: strawberry.ID = strawberry.field(description="Whose balance.")
    posted: Money = strawberry.field(description="Credit that came in less what was billed.")
    pending: Money = strawberry.field(description="Held for requests that are running.")
    available: Money = strawberry.field(description="What new requests may hold.")
    made: strawberry.Private[dict[Any, Any]]

    @classmethod
    def of(cls, state: feeds.BalanceState) -> "BalanceTick":
        """`state` as the API shows it."""
        return cls(
            organization_id=global_id(Prefix.ORGANIZATION, state.organization_id),
            posted=Money.of_nano_usd(state.posted),
            pending=Money.of_nano_usd(state.pending),
            available=Money.of_nano_usd(state.posted - state.pending),
            made={},
        )


@strawberry.type(description="Where one machine stands.")
class NodeStatus:
    """By its last link."""

    node_id: strawberry.ID = strawberry.field(description="The machine.")
    name: str = strawberry.field(description="Unique in its pool.")
    state: NodeState = strawberry.field(description="Where it stands.")
    last_seen_at: datetime | None = strawberry.field(
        description="When its last link ended or began; null before the first."
    )


@strawberry.type(description="Where all living machines of a provider stand.")
class NodesTick(SharedEvent):
    """The whole list each time: it is short, and a client needs to put nothing together."""

    provider_id: strawberry.ID = strawberry.field(description="Whose machines.")
    nodes: list[NodeStatus] = strawberry.field(description="Machines that are not retired, by name.")
    made: strawberry.Private[dict[Any, Any]]

    @classmethod
    def of(cls, state: feeds.NodesState) -> "NodesTick":
        """`state` as the API shows it."""
        nodes = [
            NodeStatus(
                node_id=global_id(Prefix.NODE, node.node_id),
                name=node.name,
                state=node.state,
                last_seen_at=node.last_seen_at and node.last_seen_at.astimezone(UTC),
            )
            for node in state.nodes
        ]
        return cls(provider_id=global_id(Prefix.PROVIDER, state.provider_id), nodes=nodes, made={})


def added(state: feeds.UsageState, previous: feeds.UsageState) -> Sequence[feeds.UsageLine]:
    """What `state` has more than `previous`, by key and model. A rebuilt rollup may also have less."""
    before: dict[tuple[UUID | None, UUID], feeds.UsageLine] = {}
    if previous.day == state.day:
        before = {(line.api_key_id, line.model_id): line for line in previous.lines}
    found = []
    for line in state.lines:
        known = before.get((line.api_key_id, line.model_id))
        if known is None:
            found.append(line)
        elif known != line:
            found.append(
                feeds.UsageLine(
                    api_key_id=line.api_key_id,
                    model_id=line.model_id,
                    model_slug=line.model_slug,
                    requests=line.requests - known.requests,
                    tokens_prompt=line.tokens_prompt - known.tokens_prompt,
                    tokens_completion=line.tokens_completion - known.tokens_completion,
                    amount_nano_usd=line.amount_nano_usd - known.amount_nano_usd,
                )
            )
    return found
