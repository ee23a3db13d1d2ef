"""Usage, balance and machines as they change."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.feeds import BalanceState, Kind, NodesState, Topic, UsageState
from raymart_graphql.feeds.events import State
from raymart_graphql.fields import subscription
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.feeds.types import BalanceTick, NodesTick, UsageTick

StateType = TypeVar("StateType", bound=State)
Event = TypeVar("Event")


@strawberry.input(description="Whose usage to follow.")
class UsageTicksInput:
    """By organization."""

    organization_id: strawberry.ID = strawberry.field(description="The organization.")


@strawberry.input(description="Whose balance to follow.")
class BalanceChangedInput:
    """By organization."""

    organization_id: strawberry.ID = strawberry.field(description="The organization.")


@strawberry.input(description="Whose machines to follow.")
class NodeStatusInput:
    """By provider."""

    provider_id: strawberry.ID = strawberry.field(description="The provider.")


@strawberry.type
class FeedSubscription:
    """Root fields of the domain. Each begins with the present state; a state that was not read in time is left out."""

    @subscription(
        "Usage of the current day by key and model: the present state at once, then at most one tick a second with "
        "what was added."
    )
    async def usage_ticks(self, info: Info, input_: UsageTicksInput) -> AsyncGenerator[UsageTick, None]:
        """From the rollups, as they are posted."""
        topic = Topic(Kind.USAGE, _id(Prefix.ORGANIZATION, input_.organization_id, "organization_id"))
        previous: UsageState | None = None
        async with aclosing(_states(info, topic, UsageState)) as states:
            async for state in states:
                before = previous
                yield _made(state, before, lambda: UsageTick.of(state, before))  # noqa: B023 - called at once
                previous = state

    @subscription(
        "What an organization has to spend: at once, then whenever it differs, at most once a second."
    )
    async def balance_changed(
        self, info: Info, input_: BalanceChangedInput
    ) -> AsyncGenerator[BalanceTick, None]:
        """From the ledger."""
        topic = Topic(Kind.BALANCE, _id(Prefix.ORGANIZATION, input_.organization_id, "organization_id"))
        async with aclosing(_states(info, topic, BalanceState)) as states:
            async for state in states:
                yield _made(state, None, lambda: BalanceTick.of(state))  # noqa: B023 - called at once

    @subscription("Where a provider's machines stand: at once, then whenever that differs, within seconds.")
    async def node_status(self, info: Info, input_: NodeStatusInput) -> AsyncGenerator[NodesTick, None]:
        """As their links left it."""
        topic = Topic(Kind.NODES, _id(Prefix.PROVIDER, input_.provider_id, "provider_id"))
        async with aclosing(_states(info, topic, NodesState)) as states:
            async for state in states:
                yield _made(state, None, lambda: NodesTick.of(state))  # noqa: B023 - called at once


async def _states(info: Info, topic: Topic, kind: type[StateType]) -> AsyncGenerator[StateType, None]:
    # The rule has read; nothing else will, and no transaction may wait for a change.
    await info.context.reading.aclose()
    async with aclosing(info.context.services.feeds.follow(topic)) as states:
        async for state in states:
            assert isinstance(state, kind)
            yield state


def _made(state: State, previous: State | None, make: Callable[[], Event]) -> Event:
    """The event of `state` after `previous`, made once for all followers who were shown the same."""
    known = state.made.get(id(previous))
    if known is None or known[0] is not previous:
        known = state.made[id(previous)] = (previous, make())
    event: Event = known[1]
    return event


def _id(prefix: Prefix, text: str, field: str) -> UUID:
    return parse_global_id(prefix, text, field=field)
