"""Pages of rows by a unique key, for many parents in one statement.

Each parent's page is its own LATERAL subquery with a LIMIT, so that an index on (parent, key) is read for the page
alone, however long the list is. An offset would read and throw away everything before the page.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Date, Integer, Select, Uuid, column, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

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

    def statement(self, page: Page) -> Select[RowType]:
        """Rows of `page` and one more, in the page's own direction.

        Raises: InvalidRequest for a cursor that is not of this list.
        """
        descending = self.newest_first != page.backward
        conditions = [*self.where, *self._between(page)]
        order = self.key.desc() if descending else self.key.asc()
        return select(self.entity).where(*conditions).order_by(order).limit(page.size + 1)

    def connection(self, rows: Sequence[RowType], page: Page) -> Connection[Shown]:
        """`rows` of `statement` as a connection."""
        found = [(str(getattr(row, self.key.key)), self.show(row)) for row in rows]
        return make_connection(found, page, name=self.name)

    def _between(self, page: Page) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if page.after is not None:
            edge = self._key_of(page.after, "after")
            conditions.append(self.key < edge if self.newest_first else self.key > edge)
        if page.before is not None:
            edge = self._key_of(page.before, "before")
            conditions.append(self.key > edge if self.newest_first else self.key < edge)
        return conditions

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
    rows = (await session.scalars(listing.statement(page))).all()
    return listing.connection(rows, page)


async def pages_by_parent(
    session: AsyncSession,
    listing: Listing[RowType, Shown],
    parent: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    *,
    parents: Collection[UUID],
    page: Page,
    joined: Callable[[Select[RowType]], Select[RowType]] = lambda statement: statement,
) -> dict[UUID, Connection[Shown]]:
    """The same page of each parent's own list, in one statement.

    `parent` is the column that names the parent; `joined` adds the joins that reach it, when it is another table's.
    """
    if len(parents) == 1:
        [only] = parents
        alone = joined(listing.statement(page)).where(parent == only)
        return {only: listing.connection((await session.scalars(alone)).all(), page)}
    asked = (
        func.unnest(list(parents), type_=Uuid())
        .table_valued(column("id", Uuid()), name="asked")
        .render_derived()
    )
    lateral = joined(listing.statement(page)).where(parent == asked.c.id).lateral("listed")
    entity = aliased(listing.entity, lateral)
    rows: dict[UUID, list[RowType]] = {parent_id: [] for parent_id in parents}
    key = getattr(entity, listing.key.key)
    descending = listing.newest_first != page.backward
    statement = (
        select(asked.c.id, entity)
        .select_from(asked)
        .join(lateral, true())
        .order_by(asked.c.id, key.desc() if descending else key.asc())
    )
    for parent_id, row in (await session.execute(statement)).all():
        rows[parent_id].append(row)
    return {parent_id: listing.connection(found, page) for parent_id, found in rows.items()}
