"""Reads the present state of many topics of one kind in one statement."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger import LedgerAccount
from raymart_billing.ledger.models import AccountKind
from raymart_billing.rollups import UsageDay
from raymart_core.clock import SystemClock
from raymart_core.money import Asset
from raymart_graphql.feeds.events import BalanceState, NodesState, NodeState, State, UsageLine, UsageState
from raymart_graphql.feeds.hints import Kind
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.supply.models import Node

Reader = Callable[[AsyncSession, Collection[UUID]], Awaitable[Mapping[UUID, State]]]
"""States by id; every id that is asked for has one."""


async def read_usage(session: AsyncSession, organization_ids: Collection[UUID]) -> Mapping[UUID, State]:
    """From the rollups, which are written together with the ledger's transfers."""
    today = SystemClock().now().date()
    sums = [
        func.sum(column)
        for column in (
            UsageDay.requests,
            UsageDay.tokens_prompt,
            UsageDay.tokens_completion,
            UsageDay.customer_nano_usd,
        )
    ]
    keys = (UsageDay.organization_id, UsageDay.api_key_id, Model.id, Model.slug)
    statement = (
        select(*keys, *sums)
        .join(ModelRevision, ModelRevision.id == UsageDay.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(UsageDay.organization_id == _any(organization_ids), UsageDay.day == today)
        .group_by(*keys)
        .order_by(UsageDay.organization_id, Model.slug, UsageDay.api_key_id)
    )
    lines: dict[UUID, list[UsageLine]] = defaultdict(list)
    for organization_id, api_key_id, model_id, slug, *measured in await session.execute(statement):
        requests, prompt, completion, amount = map(int, measured)
        lines[organization_id].append(
            UsageLine(
                api_key_id=api_key_id,
                model_id=model_id,
                model_slug=slug,
                requests=requests,
                tokens_prompt=prompt,
                tokens_completion=completion,
                amount_nano_usd=amount,
            )
        )
    return {
        each: UsageState(organization_id=each, day=today, lines=tuple(lines[each]))
        for each in organization_ids
    }


async def read_balances(session: AsyncSession, organization_ids: Collection[UUID]) -> Mapping[UUID, State]:
    """From the ledger's accounts; zero where no money has moved yet."""
    account = LedgerAccount
    statement = select(
        account.owner_id, account.credits_posted - account.debits_posted, account.debits_pending
    ).where(
        account.kind == AccountKind.CUSTOMER_BALANCE,
        account.owner_id == _any(organization_ids),
        account.asset == Asset.USD,
    )
    found = {owner: (posted, pending) for owner, posted, pending in await session.execute(statement)}
    states = {each: found.get(each, (0, 0)) for each in organization_ids}
    return {
        each: BalanceState(organization_id=each, posted=posted, pending=pending)
        for each, (posted, pending) in states.items()
    }


async def read_nodes(session: AsyncSession, provider_ids: Collection[UUID]) -> Mapping[UUID, State]:
    """Machines that are not retired."""
    statement = (
        select(Node.provider_id, Node.id, Node.name, Node.state, Node.last_seen_at)
        .where(Node.provider_id == _any(provider_ids), Node.revoked_at.is_(None))
        .order_by(Node.provider_id, Node.name, Node.id)
    )
    nodes: dict[UUID, list[NodeState]] = defaultdict(list)
    for provider_id, node_id, name, state, last_seen_at in await session.execute(statement):
        assert provider_id is not None
        nodes[provider_id].append(
            NodeState(node_id=node_id, name=name, state=state, last_seen_at=last_seen_at)
        )
    return {each: NodesState(provider_id=each, nodes=tuple(nodes[each])) for each in provider_ids}


READERS: Mapping[Kind, Reader] = {
    Kind.USAGE: read_usage,
    Kind.BALANCE: read_balances,
    Kind.NODES: read_nodes,
}


def _any(ids: Collection[UUID]) -> ColumnElement[Any]:
    return any_(literal(list(ids), ARRAY(Uuid())))
