"""Relay's parts: global ids, nodes, and keyset connections.

A global id is the id that logs, REST and support tickets show ("org_0199..."): it names its type and is unique over
all types. A connection pages by a unique key, never by offset: rows that arrive meanwhile neither repeat nor hide
others. Source: Relay's GraphQL Cursor Connections specification.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.field import StrawberryField

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix, parse, show

PAGE_DEFAULT = 50
PAGE_MAX = 100

T = TypeVar("T")
Item = TypeVar("Item")
Shown = TypeVar("Shown")


def global_id(prefix: Prefix, value: UUID) -> strawberry.ID:
    """`value` as clients see it."""
    return strawberry.ID(show(prefix, value))


def parse_global_id(prefix: Prefix, text: str, *, field: str) -> UUID:
    """Read an id that must name a `prefix`.

    Raises: InvalidRequest naming `field`.
    """
    try:
        return parse(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error)[:200], param=field) from None


Resolver = TypeVar("Resolver", bound=Callable[..., object])


def _field(description: str) -> Callable[[Resolver], Resolver]:
    """As `fields.resolved`, which stands on this module."""
    return cast("Callable[[Resolver], Resolver]", strawberry.field(description=description))


@strawberry.interface(description="Anything that can be fetched again by its global id.")
class Node:
    """Base of every type with a global id."""

    id: strawberry.ID = strawberry.field(description="Global id, unique over all types.")


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    """Relay's PageInfo."""

    has_next_page: bool = strawberry.field(description="Whether items follow this page.")
    has_previous_page: bool = strawberry.field(description="Whether items precede this page.")
    start_cursor: str | None = strawberry.field(
        description="Cursor of the first item; null for an empty page."
    )
    end_cursor: str | None = strawberry.field(description="Cursor of the last item; null for an empty page.")


@strawberry.type(description="One item of a page.")
class Edge(Generic[T]):
    """An item with its cursor."""

    cursor: str = strawberry.field(description="Opaque position of the item, for `after` and `before`.")
    node: T = strawberry.field(description="The item.")


@strawberry.type(description="One page of a list.")
class Connection(Generic[T]):
    """A page of items in the list's order. What is not asked for is not made."""

    found: strawberry.Private[Sequence[tuple[str, T]]]
    """Keys and items, in the list's order."""
    name: strawberry.Private[str]
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list.")

    @_field("The page's items with their cursors.")
    def edges(self) -> list[Edge[T]]:
        """Each item with its cursor."""
        return [Edge(cursor=make_cursor(self.name, key), node=item) for key, item in self.found]

    @_field("The page's items alone.")
    def nodes(self) -> list[T]:
        """Each item."""
        return [item for _, item in self.found]

    def mapped(self, show: "Callable[[T], Shown]") -> "Connection[Shown]":
        """The same page of something else: only what is on it is shown."""
        found = [(key, show(item)) for key, item in self.found]
        return Connection(found=found, name=self.name, page_info=self.page_info)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is asked for: `size` items after and before two cursors, from the front or the back."""

    size: int
    backward: bool
    after: str | None
    before: str | None


def make_page(*, first: int | None, after: str | None, last: int | None, before: str | None) -> Page:
    """Check a connection's arguments.

    Raises: InvalidRequest for `first` beside `last`, or a size outside 0..PAGE_MAX.
    """
    if first is not None and last is not None:
        raise InvalidRequest("send `first` or `last`, not both", param="last")
    size = PAGE_DEFAULT if first is None and last is None else (last if first is None else first)
    assert size is not None
    if not 0 <= size <= PAGE_MAX:
        name = "first" if first is not None else "last"
        raise InvalidRequest(f"`{name}` is {size}; a page has 0 to {PAGE_MAX} items", param=name)
    return Page(size=size, backward=last is not None, after=after, before=before)


class PageArguments(FieldExtension):
    """Gives a field Relay's four arguments and its resolver one `page: Page` made of them."""

    def apply(self, field: StrawberryField) -> None:
        """Replace the resolver's `page` by the arguments that clients see."""
        field.arguments = [
            *(argument for argument in field.arguments if argument.python_name != "page"),
            _argument(
                "first",
                int,
                f"Take this many items from the front, 0 to {PAGE_MAX}; {PAGE_DEFAULT} if neither is given.",
            ),
            _argument("after", str, "Take items after this cursor."),
            _argument("last", int, f"Take this many items from the back, 0 to {PAGE_MAX}."),
            _argument("before", str, "Take items before this cursor."),
        ]

    async def resolve_async(
        self,
        next_: AsyncExtensionResolver,
        source: object,
        info: strawberry.Info,
        **kwargs: Any,  # noqa: ANN401 - Strawberry's own signature
    ) -> object:
        """Call the resolver with its page."""
        page = make_page(
            first=kwargs.pop("first", None),
            after=kwargs.pop("after", None),
            last=kwargs.pop("last", None),
            before=kwargs.pop("before", None),
        )
        return await next_(source, info, page=page, **kwargs)


def _argument(name: str, kind: type, description: str) -> StrawberryArgument:
    return StrawberryArgument(
        python_name=name,
        graphql_name=None,
        type_annotation=StrawberryAnnotation(kind | None),
        description=description,
        default=strawberry.UNSET,
    )


def make_cursor(name: str, key: str) -> str:
    """Opaque position of the item with `key` in the list `name`."""
    return base64.urlsafe_b64encode(f"{name}:{key}".encode()).decode().rstrip("=")


def read_cursor(name: str, cursor: str, *, field: str) -> str:
    """The key in a cursor that `make_cursor` made for the same list.

    Raises: InvalidRequest naming `field`, also for a cursor of another list.
    """
    try:
        text = base64.b64decode(
            cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
    except (binascii.Error, ValueError):
        text = ""
    found, _, key = text.partition(":")
    if found != name or not key.isprintable() or not key:
        raise InvalidRequest(
            f"{cursor[:40]!r} is no cursor of this list; take one from its edges", param=field
        )
    return key


def make_connection(found: Sequence[tuple[str, Item]], page: Page, *, name: str) -> "Connection[Item]":
    """A page of what was `found`: (key, item) in the page's own direction, one more than `page.size` if there are more."""
    shown = found[: page.size]
    more = len(found) > page.size
    if page.backward:
        shown = shown[::-1]
    # The item behind a cursor existed when it was handed out, so there is something on its far side.
    return Connection(
        found=shown,
        name=name,
        page_info=PageInfo(
            has_next_page=page.before is not None if page.backward else more,
            has_previous_page=more if page.backward else page.after is not None,
            start_cursor=make_cursor(name, shown[0][0]) if shown else None,
            end_cursor=make_cursor(name, shown[-1][0]) if shown else None,
        ),
    )


def page_of_sequence(
    items: Sequence[Item], page: Page, *, name: str, key: Callable[[Item], str]
) -> "Connection[Item]":
    """A page of `items` in memory by their unique `key`, ascending."""
    after = read_cursor(name, page.after, field="after") if page.after is not None else None
    before = read_cursor(name, page.before, field="before") if page.before is not None else None
    keyed = sorted(((key(item), item) for item in items), key=lambda pair: pair[0], reverse=page.backward)
    within = [
        pair for pair in keyed if (after is None or pair[0] > after) and (before is None or pair[0] < before)
    ]
    return make_connection(within[: page.size + 1], page, name=name)
