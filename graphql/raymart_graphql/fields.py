"""Typed spellings of Strawberry's decorators, whose own types erase what they decorate; each demands a description."""

from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import strawberry
from strawberry.extensions.field_extension import FieldExtension
from strawberry.types.field import StrawberryField

from raymart_graphql.context import Info, Operation
from raymart_graphql.relay import PageArguments

Resolver = TypeVar("Resolver", bound=Callable[..., object])


class Decorator(Protocol):
    """Leaves the resolver's type as it is, for mypy."""

    def __call__(self, resolver: Resolver, /) -> Resolver:
        """Make `resolver` a field."""


def resolved(description: str) -> Decorator:
    """A field with a resolver."""
    return cast("Decorator", strawberry.field(description=description))


def listed(description: str) -> Decorator:
    """A field that is a keyset connection: its resolver takes `page`, clients see Relay's four arguments."""
    return cast("Decorator", strawberry.field(description=description, extensions=[PageArguments()]))


def mutation(description: str) -> Decorator:
    """A root field that changes something: its resolver takes `input_` and returns a payload."""
    return cast("Decorator", strawberry.mutation(description=description, extensions=[InputArgument()]))


def subscription(description: str) -> Decorator:
    """A root field that streams: its resolver takes `input_`."""
    return cast("Decorator", strawberry.subscription(description=description, extensions=[InputArgument()]))


REFERENCE = "raymart.reference"
"""Key of a field's `Reference` in its metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A field that gives the object which another attribute names."""

    key: str
    """Attribute of the source, dotted if it is of a part of it: a loader's key, or None for no object."""
    loader: str
    """Attribute of the operation's `Loaders`, dotted: what knows the objects by that key."""

    def load(self, operation: Operation) -> "Callable[[UUID], Future[Any]]":
        """What begins to load an object by its key, in this operation."""
        return cast("Callable[[UUID], Future[Any]]", attrgetter(self.loader)(operation.loaders).load)


def reference(description: str, *, key: str, loader: str) -> Any:  # noqa: ANN401 - the annotation of the attribute is the field's type
    """A field whose object a loader knows by the attribute `key`. Lists load all of theirs at once (`execution`)."""
    refers, key_of = Reference(key=key, loader=loader), attrgetter(key)

    async def load(self: Any, info: Info):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as above
        found = key_of(self)
        return None if found is None else await refers.load(info.context)(found)

    return strawberry.field(resolver=load, description=description, metadata={REFERENCE: refers})


class InputArgument(FieldExtension):
    """Names and describes the one argument that all of these fields have."""

    def apply(self, field: StrawberryField) -> None:
        """`input_` (Python has a function of the other name) is `input` to clients."""
        for argument in field.arguments:
            if argument.python_name == "input_":
                argument.graphql_name = "input"
                argument.description = "What is asked for."
