"""Kinds of rule, checked before any resolver runs.

`raymart_graphql.rules`, a module per domain, says which operation needs which permission; which role has it, says
`raymart_marketplace.accounts.permissions`. Here are the kinds of rule that the first is made of. What belongs to
another tenant is told apart from what does not exist by no answer: both are FORBIDDEN with the same sentence.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast
from uuid import UUID

from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension

from raymart_core.errors import Forbidden, NotAuthenticated
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.principal import Principal
from raymart_graphql.relay import parse_global_id
from raymart_marketplace.accounts.permissions import (
    PLATFORM_PERMISSIONS,
    PRIVATE_READS,
    TENANT_READS,
    Permission,
)
from raymart_marketplace.db.tenancy import NOBODY

_NO_CREDENTIALS = "send `Authorization: Bearer <access token>`; the `login` mutation gives one"
_NO_PERSON = "an API key is for inference only; log in and send an access token"


class Owned(Protocol):
    """An object that belongs to an organization."""

    async def owner(self, operation: Operation) -> UUID | None:
        """The organization; None for what belongs to the platform."""


class Rule(Protocol):
    """A condition on who asks and what for."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Raises: NotAuthenticated, Forbidden, InvalidRequest for an id that is none."""


@dataclass(frozen=True, slots=True)
class Public:
    """Anybody, without credentials too."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Never refuses."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Any person with an access token."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers and API keys."""
        await _person(operation)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Any person or API key."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers."""
        principal = await operation.principal()
        if principal.user_id is None and principal.caller is None:
            raise NotAuthenticated(_NO_CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Platform:
    """One of the platform's people who has `permission` over the whole market."""

    permission: Permission

    def __post_init__(self) -> None:
        assert self.permission in PLATFORM_PERMISSIONS, f"{self.permission} is of one organization"

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses everybody else."""
        if not (await _person(operation)).may_in_market(self.permission):
            raise Forbidden(
                f"this is for the marketplace's own people with the permission {self.permission.value!r}"
            )


@dataclass(frozen=True, slots=True)
class MemberOfSource:
    """Who has `permission` in the organization that owns the object whose field is asked."""

    permission: Permission

    def __post_init__(self) -> None:
        assert self.permission in TENANT_READS | PRIVATE_READS, f"{self.permission} is not for reading"

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers to the organization and lesser roles."""
        await _person(operation)
        if not await may_see(operation, cast("Owned", source), self.permission):
            raise Forbidden(
                f"this is for those who have the permission {self.permission.value!r} in the organization that owns it"
            )


@dataclass(frozen=True, slots=True)
class MemberOf:
    """Who has `permission` in the organization that owns what `input.<field>` names."""

    field: str
    kind: Prefix
    permission: Permission

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, lesser roles, and ids of things that do not exist."""
        principal = await _person(operation)
        text = getattr(arguments["input_"], self.field)
        organization_id = await owner_of(operation, self.kind, text, field=self.field)
        if organization_id is None or not principal.may(self.permission, organization_id):
            raise Forbidden(
                f"{text!r} names nothing on which your role allows this; `viewer.organizations` lists your roles"
            )
        operation.acting_for = organization_id


@dataclass(frozen=True, slots=True)
class MayInfer:
    """Any API key, or who may infer with the project that `input.project_id` names or leaves open."""

    permission: Permission = Permission.INFER

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, and people who name another's project; without one, the authenticator chooses."""
        project_id = arguments["input_"].project_id
        if project_id is None:
            await Authenticated().check(operation, source, arguments)
        else:
            await MemberOf("project_id", Prefix.PROJECT, self.permission).check(operation, source, arguments)


Visible = Callable[[Operation, Any], Awaitable[bool]]


async def may_see(operation: Operation, item: Owned, permission: Permission) -> bool:
    """Whether the viewer has `permission`, one of reading, in the item's organization."""
    principal = await operation.principal()
    if principal.reaches(permission):
        return True
    organization_id = await item.owner(operation)
    return organization_id is not None and principal.may(permission, organization_id)


async def owner_of(operation: Operation, kind: Prefix, text: str, *, field: str) -> UUID | None:
    """The organization that owns what the global id `text` names; None when there is no such thing.

    Raises: InvalidRequest when `text` is no id of a `kind`.
    """
    item_id = parse_global_id(kind, text, field=field)
    item: Owned | None = await operation.loaders.by_prefix(kind).load(item_id)
    return None if item is None else await item.owner(operation)


class Guard(FieldExtension):
    """Checks a field's rule before its resolver runs, and says whose rows the resolver may touch.

    A mutation whose rule names an organization writes that tenant's rows only. One that needs none (logging in, what
    people do with their own account, what the platform's people do) has the process's rights and answers for itself.
    Everything else reads as who asks.
    """

    def __init__(self, rule: Rule, *, is_mutation: bool = False) -> None:
        self.rule = rule
        self._is_mutation = is_mutation

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Run the rule, then the resolver."""
        operation = info.context
        if self._is_mutation:
            # Mutations run one after another; what the one before acted for is over.
            operation.acting_for = None
            operation.reading.confinement = NOBODY
        await operation.recognise()
        await self.rule.check(operation, source, kwargs)
        if self._is_mutation and operation.acting_for is None:
            operation.reading.confinement = None
        found = await resolve_next(next_(source, info, **kwargs))
        if isinstance(found, AsyncGenerator):
            # A subscription outlives this answer: the rule is asked again while it is open.
            watch = operation.services.watch
            return watch.watched(operation, found, rule=self.rule, source=source, arguments=kwargs)
        return found


async def resolve_next(result: object) -> object:
    """What an extension hands on: a subscription's generator as it is, anything else once it is there."""
    return await result if isinstance(result, Awaitable) else result


async def _person(operation: Operation) -> Principal:
    principal = await operation.principal()
    if principal.caller is not None:
        raise Forbidden(_NO_PERSON)
    if principal.user_id is None:
        raise NotAuthenticated(_NO_CREDENTIALS)
    return principal
