"""Typed spellings of Strawberry's decorators, whose own types erase what they decorate; each demands a description."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import strawberry
from strawberry.extensions.field_extension import FieldExtension
from strawberry.types.field import StrawberryField

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


class InputArgument(FieldExtension):
    """Names and describes the one argument that all of these fields have."""

    def apply(self, field: StrawberryField) -> None:
        """`input_` (Python has a function of the other name) is `input` to clients."""
        for argument in field.arguments:
            if argument.python_name == "input_":
                argument.graphql_name = "input"
                argument.description = "What is asked for."
