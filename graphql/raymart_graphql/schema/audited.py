"""The audit log's part of every mutation: who acts on what is known before the resolver runs, and its commits write it.

A mutation is audited by being one (`guarded.py`); the few that are not are named here, with the reason.
"""

from collections.abc import Mapping
from typing import Protocol, cast, runtime_checkable
from uuid import UUID

import structlog
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension

from raymart_core.errors import DomainError, Forbidden
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.permissions import resolve_next
from raymart_graphql.principal import ANONYMOUS as NOBODY
from raymart_graphql.principal import Principal
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace import audit
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.audit import Act, Actor, ActorKind, AuditOutcome, Origin, Subject
from raymart_marketplace.audit.redaction import id_of
from raymart_marketplace.db.session import session_scope

log = structlog.get_logger()

NOT_AUDITED: Mapping[str, str] = {
    "createChatCompletion": "inference: each request leaves its own row, and is metered",
    "createImage": "inference: each request leaves its own row, and is metered",
    "createEmbedding": "inference: each request leaves its own row, and is metered",
    "refreshSession": "goes on with a session whose opening has its entry, every few minutes; the session keeps its last use",
}
"""Mutations without an entry of theirs, and why."""


@runtime_checkable
class HasOwner(Protocol):
    """What belongs to an organization, or to the platform."""

    async def owner(self, operation: Operation, /) -> UUID | None:
        """The organization."""


class Audited(FieldExtension):
    """Around a mutation's resolver, inside its permission rule: whatever it commits has an entry.

    A mutation that changed nothing has one too, in a transaction of its own: that somebody tried is worth knowing. What
    failed changed nothing and has none. One that is open to everybody is an act of nobody until it says who signed in
    (`audit.signed_in`), and leaves nothing unless it changed something: neither rows that strangers could make at will,
    nor a delay that tells whether an address has an account.
    """

    def __init__(self, action: str, *, is_public: bool) -> None:
        self._action = action
        self._is_public = is_public

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Run the resolver as an act. Raises what it raises."""
        operation = info.context
        principal = NOBODY if self._is_public else await operation.principal()
        act = await _act_of(operation, principal, self._action, kwargs.get("input_"))
        with audit.acting(act):
            payload = await resolve_next(next_(source, info, **kwargs))
        is_unwritten = act.entries == 0 and not self._is_public
        if is_unwritten and isinstance(payload, Payload) and not payload.user_errors:
            async with session_scope(operation.services.sessions) as session:
                await audit.append(session, act, AuditOutcome.DONE)
        return payload


class RefusalsAudited(FieldExtension):
    """Around a mutation's permission rule: keeps who was refused, of people and keys that are known.

    A stranger's tries are only logged, and those of one actor are kept up to 20 an hour.
    """

    def __init__(self, action: str) -> None:
        self._action = action

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Run the rule and the resolver. Raises what they raise."""
        try:
            return await resolve_next(next_(source, info, **kwargs))
        except Forbidden:
            await _keep_refusal(info.context, self._action, kwargs.get("input_"))
            raise


async def _keep_refusal(operation: Operation, action: str, input_: object) -> None:
    principal = await operation.principal()
    act = await _act_of(operation, principal, action, input_)
    log.info("mutation.refused", action=action, actor_kind=act.actor.kind.value, actor_id=str(act.actor.id))
    if act.organization_id is not None and principal.role_in(act.organization_id) is None:
        # Strangers must not write into the log that another tenant reads.
        act.organization_id = None
    async with session_scope(operation.services.sessions) as session:
        await audit.append(session, act, AuditOutcome.REFUSED)


async def _act_of(operation: Operation, principal: Principal, action: str, input_: object) -> Act:
    mentioned = list(dict.fromkeys(audit.ids_in(input_)))[: audit.MENTIONS_MAX]
    organization_id = await _affected(operation, mentioned)
    client = operation.client
    request = id_of(client.request_id)
    return Act(
        action=action,
        actor=_actor(principal),
        session_id=(await operation.claims()).session_id if principal.user_id is not None else None,
        origin=Origin(address=client.address, user_agent=client.user_agent),
        request_id=request[1] if request is not None else None,
        organization_id=organization_id,
        acting_organization_id=_acting_for(principal, organization_id),
        subject=Subject(*mentioned[0]) if mentioned else None,
        mentions=[item_id for _, item_id in mentioned],
        input=cast("Mapping[str, object]", audit.shown(input_)) if input_ is not None else {},
    )


def _actor(principal: Principal) -> Actor:
    if principal.caller is not None and principal.caller.api_key_id is not None:
        return Actor(kind=ActorKind.API_KEY, id=principal.caller.api_key_id)
    if principal.user_id is not None:
        return Actor(kind=ActorKind.USER, id=principal.user_id)
    return audit.ANONYMOUS


async def _affected(operation: Operation, mentioned: list[tuple[Prefix, UUID]]) -> UUID | None:
    """Whose things the input names, by the first id that belongs to somebody."""
    for prefix, item_id in mentioned:
        if prefix is Prefix.ORGANIZATION:
            return item_id
        try:
            item: object = await operation.loaders.by_prefix(prefix).load(item_id)
            organization_id = await item.owner(operation) if isinstance(item, HasOwner) else None
        except (
            KeyError,
            DomainError,
        ):  # Nothing that people see by this id, or not now: the resolver will say.
            continue
        if organization_id is not None:
            return organization_id
    return None


def _acting_for(principal: Principal, organization_id: UUID | None) -> UUID | None:
    """The organization in whose role somebody acts on things of `organization_id`."""
    if principal.caller is not None:
        return principal.caller.organization_id
    if organization_id is not None and principal.role_in(organization_id) is not None:
        return organization_id
    platforms = (
        standing.organization_id
        for standing in principal.standings.values()
        if standing.kind is OrganizationKind.PLATFORM
    )
    return next(platforms, None)
