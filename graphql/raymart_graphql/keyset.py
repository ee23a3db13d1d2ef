"""Pages of rows by a unique key, for many parents in one statement.

Each parent's page is its own LATERAL subquery with a LIMIT, so that an index on (parent, key) is read for the page
alone, however long the list is. An offset would read and throw away everything before the page.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Date,
    Integer,
    Select,
    Uuid,
    bindparam,
    column,
    func,
    inspect,
    literal,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.errors import InvalidRequest
from raymart_graphql.relay import Connection, Page, make_connection, read_cursor

DIGITS_MAX = 18
"""Of an integer key: what always fits a bigint."""
RowType = TypeVar("RowType")
Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[RowType, Shown]):
    """A list of `entity` rows in the order of a unique `key`, shown through `show`."""

    name: str
    """Goes into cursors, so that one of another list is refused."""
    entity: type[RowType]
    key: InstrumentedAttribute[Any]
    """Unique, not null; a UUID, integer, date or text column."""
    show: Callable[[RowType], Shown]
    newest_first: bool = False
    where: tuple[ColumnElement[bool], ...] = ()
    _statements: dict[Hashable, Select[Any]] = field(default_factory=dict, repr=False, compare=False)
    """By the shape of the page: to make one costs more than to send it. There are at most 8 for each size."""

    def statement(self, page: Page) -> Select[Any]:
        """Rows of `page` and one more, in the page's own direction, as columns (`as_rows`), for `values`."""
        shape = (page.size, page.backward, page.after is None, page.before is None)
        found = self._statements.get(shape)
        if found is None:
            found = self._statements[shape] = self._make(page)
        return found

    def of_parent(
        self,
        page: Page,
        parent: InstrumentedAttribute[Any],
        joined: Callable[[Select[Any]], Select[Any]],
    ) -> Select[Any]:
        """`statement` for the one `parent`, which is another parameter."""
        shape = (page.size, page.backward, page.after is None, page.before is None, parent)
        found = self._statements.get(shape)
        if found is None:
            one = parent == bindparam("parent", type_=parent.type)
            found = self._statements[shape] = joined(self._make(page)).where(one)
        return found

    def values(self, page: Page) -> dict[str, object]:
        """Parameters of `statement`. Raises: InvalidRequest for a cursor that is not of this list."""
        given = {name: cursor for name in ("after", "before") if (cursor := getattr(page, name)) is not None}
        return {name: self._key_of(cursor, name) for name, cursor in given.items()}

    def _make(self, page: Page) -> Select[Any]:
        key = self.key
        conditions = list(self.where)
        for name, follows in (("after", not self.newest_first), ("before", self.newest_first)):
            if getattr(page, name) is not None:
                edge = bindparam(name, type_=key.type)
                conditions.append(key > edge if follows else key < edge)
        order = key.desc() if self.newest_first != page.backward else key.asc()
        # Written into the statement: with a limit that it does not know, PostgreSQL plans every execution anew.
        size = literal(page.size + 1, Integer(), literal_execute=True)
        return select(inspect(self.entity).local_table).where(*conditions).order_by(order).limit(size)

    def connection(self, rows: Sequence[RowType], page: Page) -> Connection[Shown]:
        """`rows` of `statement` as a connection."""
        found = [(str(getattr(row, self.key.key)), self.show(row)) for row in rows]
        return make_connection(found, page, name=self.name)

    def _key_of(self, cursor: str, argument: str) -> UUID | int | date | str:
        text = read_cursor(self.name, cursor, field=argument)
        try:
            if isinstance(self.key.type, Uuid):
                return UUID(text)
            if isinstance(self.key.type, Date):
                return date.fromisoformat(text)
            return int(text[:DIGITS_MAX]) if isinstance(self.key.type, Integer) else text
        except ValueError:
            raise InvalidRequest(f"{cursor[:40]!r} is no cursor of this list", param=argument) from None


async def page_of(session: AsyncSession, listing: Listing[RowType, Shown], page: Page) -> Connection[Shown]:
    """One page of a list."""
    rows = as_rows(listing.entity, await rows_of(session, listing.statement(page), listing.values(page)))
    return listing.connection(rows, page)


async def rows_of(
    session: AsyncSession, statement: Select[*tuple[Any, ...]], values: Mapping[str, object]
) -> Sequence[Any]:
    """Rows of columns, past the session's own layer: that is for entities, and costs as much as sending a small statement."""
    return await session.run_sync(lambda own: own.connection().execute(statement, values).all())


def as_rows(entity: type[RowType], rows: Iterable[Any]) -> Sequence[RowType]:
    """Rows of `select(entity.__table__)`, read like entities: by the names of their columns.

    The API only reads them, and an entity with its identity map and change tracking costs several times as much.
    """
    return cast("Sequence[RowType]", rows if isinstance(rows, Sequence) else list(rows))


async def pages_by_parent(
    session: AsyncSession,
    listing: Listing[RowType, Shown],
    parent: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    *,
    parents: Collection[UUID],
    page: Page,
    joined: Callable[[Select[Any]], Select[Any]] = lambda statement: statement,
) -> dict[UUID, Connection[Shown]]:
    """The same page of each parent's own list, in one statement.

    `parent` is the column that names the parent; `joined` adds the joins that reach it, when it is another table's.
    """
    if len(parents) == 1:
        [only] = parents
        alone = listing.of_parent(page, parent, joined)
        found = await rows_of(session, alone, {"parent": only, **listing.values(page)})
        return {only: listing.connection(as_rows(listing.entity, found), page)}
    asked = (
        func.unnest(list(parents), type_=Uuid())
        .table_valued(column("asked_id", Uuid()), name="asked")
        .render_derived()
    )
    lateral = joined(listing.statement(page)).where(parent == asked.c.asked_id).lateral("listed")
    rows: dict[UUID, list[RowType]] = {parent_id: [] for parent_id in parents}
    key = lateral.c[listing.key.key]
    descending = listing.newest_first != page.backward
    statement = (
        select(asked.c.asked_id, *lateral.c)
        .select_from(asked)
        .join(lateral, true())
        .order_by(asked.c.asked_id, key.desc() if descending else key.asc())
    )
    for row in (await session.execute(statement, listing.values(page))).all():
        rows[row.asked_id].append(cast("RowType", row))
    return {parent_id: listing.connection(found, page) for parent_id, found in rows.items()}
