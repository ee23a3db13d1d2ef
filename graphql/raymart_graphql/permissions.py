"""Kinds of permission, checked before any resolver runs.

The table is `raymart_graphql.rules`, a module per domain; here are the kinds of rule that it is made of. What belongs to
another tenant is told apart from what does not exist by no answer: both are FORBIDDEN with the same sentence.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast
from uuid import UUID

from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension

from raymart_core.errors import Forbidden, NotAuthenticated
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.principal import Principal
from raymart_graphql.relay import parse_global_id
from raymart_marketplace.accounts.models import Role

READERS = frozenset(Role)
WRITERS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
"""Who may use an organization's money for inference and make its keys."""
MANAGERS = frozenset({Role.OWNER, Role.ADMIN})
"""Who may change what an organization asks and who joins it."""

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
class Admin:
    """An owner or admin of the platform's organization."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses everybody else."""
        if not (await _person(operation)).is_admin:
            raise Forbidden("this is for the marketplace's administrators")


@dataclass(frozen=True, slots=True)
class MemberOfSource:
    """A member, in one of `roles`, of the organization that owns the object whose field is asked; or an administrator."""

    roles: frozenset[Role]

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers to the organization."""
        await _person(operation)
        if not await may_see(operation, cast("Owned", source), self.roles):
            raise Forbidden("this is for members of the organization that owns it")


@dataclass(frozen=True, slots=True)
class MemberOf:
    """A member, in one of `roles`, of the organization that owns what `input.<field>` names."""

    field: str
    kind: Prefix
    roles: frozenset[Role]

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, lesser roles, and ids of things that do not exist."""
        principal = await _person(operation)
        text = getattr(arguments["input_"], self.field)
        organization_id = await owner_of(operation, self.kind, text, field=self.field)
        if organization_id is None or principal.role_in(organization_id) not in self.roles:
            raise Forbidden(
                f"{text!r} names nothing on which your role allows this; `viewer.organizations` lists your roles"
            )


@dataclass(frozen=True, slots=True)
class MayInfer:
    """Any API key, or a person in one of `roles` of the project that `input.project_id` names or leaves open."""

    roles: frozenset[Role]

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, and people who name another's project; without one, the authenticator chooses."""
        project_id = arguments["input_"].project_id
        if project_id is None:
            await Authenticated().check(operation, source, arguments)
        else:
            await MemberOf("project_id", Prefix.PROJECT, self.roles).check(operation, source, arguments)


Visible = Callable[[Operation, Any], Awaitable[bool]]


async def may_see(operation: Operation, item: Owned, roles: frozenset[Role] = READERS) -> bool:
    """Whether the viewer is in one of `roles` of the item's organization, or an administrator."""
    principal = await operation.principal()
    if principal.is_admin:
        return True
    organization_id = await item.owner(operation)
    return organization_id is not None and principal.role_in(organization_id) in roles


async def owner_of(operation: Operation, kind: Prefix, text: str, *, field: str) -> UUID | None:
    """The organization that owns what the global id `text` names; None when there is no such thing.

    Raises: InvalidRequest when `text` is no id of a `kind`.
    """
    item_id = parse_global_id(kind, text, field=field)
    item: Owned | None = await operation.loaders.by_prefix(kind).load(item_id)
    return None if item is None else await item.owner(operation)


class Guard(FieldExtension):
    """Checks a field's rule before its resolver runs."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Run the rule, then the resolver."""
        await self.rule.check(info.context, source, kwargs)
        return await resolve_next(next_(source, info, **kwargs))


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
