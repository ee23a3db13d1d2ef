"""`node` and `nodes`: anything by its global id, as far as the viewer may see it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix, parse
from raymart_graphql.context import Info, Operation
from raymart_graphql.fields import resolved
from raymart_graphql.permissions import Owned, may_see
from raymart_graphql.relay import Node
from raymart_graphql.schema.catalog.types import ModelRevision
from raymart_graphql.schema.identity.types import User
from raymart_graphql.schema.sessions.types import Session
from raymart_graphql.schema.supply.types import Offer, Pool
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.catalog.models import RevisionState
from raymart_marketplace.supply.models import OfferState, PoolKind

NODES_MAX = 100
Visible = Callable[[Operation, Any], Awaitable[bool]]


async def _anybody(_operation: Operation, _item: object) -> bool:
    return True


async def _themselves(operation: Operation, item: User) -> bool:
    principal = await operation.principal()
    return principal.user_id == item.uuid or principal.reaches(Permission.MEMBERS_READ)


async def _nobody_else(operation: Operation, item: Session) -> bool:
    return (await operation.principal()).user_id == item.user_uuid


async def _anybody_once_published(operation: Operation, item: ModelRevision) -> bool:
    if item.state is not RevisionState.DRAFT:
        return True
    return (await operation.principal()).may_in_market(Permission.PLATFORM_MARKET_READ)


async def _anybody_until_closed(operation: Operation, item: Offer) -> bool:
    return item.state is not OfferState.CLOSED or await may_see(operation, item, Permission.SUPPLY_READ)


async def _those_who_may_join(operation: Operation, item: Pool) -> bool:
    principal = await operation.principal()
    if principal.reaches(Permission.SUPPLY_READ):
        return True
    if item.kind is PoolKind.HOUSE:
        return principal.user_id is not None
    if item.provider_uuid is None:
        return False
    provider = await operation.loaders.supply.provider.load_known(item.provider_uuid)
    return await may_see(operation, provider, Permission.SUPPLY_READ)


def _with(permission: Permission) -> Visible:
    """Those who have `permission` in the organization that owns it, or in every one."""

    async def is_visible(operation: Operation, item: Owned) -> bool:
        return await may_see(operation, item, permission)

    return is_visible


def _of_the_platform(permission: Permission) -> Visible:
    """Those of the platform's people who have `permission`."""

    async def is_visible(operation: Operation, _item: object) -> bool:
        return (await operation.principal()).may_in_market(permission)

    return is_visible


NODE_RULES: Mapping[Prefix, Visible] = {
    Prefix.USER: _themselves,
    Prefix.SESSION: _nobody_else,
    Prefix.ORGANIZATION: _with(Permission.ORGANIZATION_READ),
    Prefix.PROJECT: _with(Permission.ORGANIZATION_READ),
    Prefix.SERVICE_ACCOUNT: _with(Permission.MEMBERS_READ),
    Prefix.API_KEY: _with(Permission.KEYS_READ),
    Prefix.MODEL: _anybody,
    Prefix.REVISION: _anybody_once_published,
    Prefix.PROVIDER: _anybody,
    Prefix.POOL: _those_who_may_join,
    Prefix.NODE: _with(Permission.SUPPLY_READ),
    Prefix.PLACEMENT: _with(Permission.SUPPLY_READ),
    Prefix.BENCHMARK: _with(Permission.SUPPLY_READ),
    Prefix.OFFER: _anybody_until_closed,
    Prefix.REQUEST: _with(Permission.USAGE_READ),
    Prefix.USAGE_RECORD: _with(Permission.USAGE_READ),
    Prefix.INVOICE: _with(Permission.BILLING_READ),
    Prefix.CREDIT_NOTE: _with(Permission.BILLING_READ),
    Prefix.REFUND: _with(Permission.BILLING_READ),
    Prefix.LEDGER_ACCOUNT: _of_the_platform(Permission.PLATFORM_LEDGER_READ),
    Prefix.WORK: _of_the_platform(Permission.PLATFORM_WORK_READ),
    Prefix.TASK_RUN: _of_the_platform(Permission.PLATFORM_WORK_READ),
    Prefix.TRANSFER: _of_the_platform(Permission.PLATFORM_LEDGER_READ),
    Prefix.DEPOSIT: _with(Permission.BILLING_READ),
    Prefix.DISPUTE: _with(Permission.BILLING_READ),
    Prefix.CREDIT_GRANT: _with(Permission.BILLING_READ),
    Prefix.ALERT: _with(Permission.BILLING_READ),
}
"""Who sees a node, by what its id names. A test holds that every type with the interface Node has an entry."""


@strawberry.type
class NodeQuery:
    """Root fields of Relay's refetching."""

    @resolved("Anything by its global id; null when there is no such thing, or not for the viewer.")
    async def node(
        self,
        info: Info,
        item_id: Annotated[strawberry.ID, strawberry.argument(name="id", description="Global id.")],
    ) -> Node | None:
        """One node."""
        return await _node(info.context, item_id)

    @resolved(f"The same for up to {NODES_MAX} ids, in their order.")
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], strawberry.argument(description="Global ids.")]
    ) -> list[Node | None]:
        """Several nodes."""
        if len(ids) > NODES_MAX:
            raise InvalidRequest(f"{len(ids)} ids; the limit is {NODES_MAX}", param="ids")
        return await asyncio.gather(*(_node(info.context, item_id) for item_id in ids))


async def _node(operation: Operation, text: str) -> Node | None:
    prefix, item_id = _read(text)
    found = await operation.loaders.by_prefix(prefix).load(item_id)
    return found if found is not None and await NODE_RULES[prefix](operation, found) else None


def _read(text: str) -> tuple[Prefix, Any]:
    head = text.partition("_")[0]
    try:
        prefix = Prefix(head)
        if prefix in NODE_RULES:
            return prefix, parse(prefix, text)
    except ValueError:
        pass
    raise InvalidRequest(f"{text[:60]!r} is no global id, such as 'org_' and 32 hex digits", param="id")
