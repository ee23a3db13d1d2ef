"""How rows that a page refers to are loaded: in one statement per kind, for one operation.

A loader lives for one operation, so nothing of one caller can reach another, and nothing goes stale for long.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Select, any_, bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from strawberry.dataloader import DataLoader

from raymart_billing.ledger import models as ledger
from raymart_billing.ledger.models import AccountKind
from raymart_core.errors import DomainError
from raymart_core.money import Asset
from raymart_graphql.keyset import Listing, as_rows, pages_by_parent, rows_of
from raymart_graphql.reading import Reading
from raymart_graphql.relay import Connection, Page
from raymart_marketplace.db.base import Base, Row

RowType = TypeVar("RowType", bound=Row)
Table = TypeVar("Table", bound=Base)
Shown = TypeVar("Shown")
Numbered = TypeVar("Numbered", ledger.LedgerAccount, ledger.Transfer)
Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked", bound=Hashable)
Found = TypeVar("Found")
Wish = TypeVar("Wish", bound=Hashable)

FEW_MAX = 100
"""Rows of a list that is no connection."""
Pages = DataLoader[tuple[UUID, Page], Connection[Shown]]


@cache
def rows_by(column: InstrumentedAttribute[Any], *, one: bool) -> Select[Any]:
    """Rows of `column`'s table with one of `keys`, or with the one `key`. Read them with `keyset.as_rows`.

    Made once: SQLAlchemy spends more on making a statement than on sending it. All keys are one array, so that their
    number makes no statement of its own.
    """
    table = column.parent.local_table
    known = table.c[column.key]
    if one:
        return select(table).where(known == bindparam("key", type_=column.type))
    return select(table).where(known == any_(bindparam("keys", type_=ARRAY(column.type))))


async def find_by(
    session: AsyncSession, entity: type[Table], column: InstrumentedAttribute[Any], keys: Collection[Any]
) -> Sequence[Table]:
    """Rows of `entity` whose `column` is one of `keys`, in no order."""
    one = len(keys) == 1
    given = {"key": next(iter(keys))} if one else {"keys": list(keys)}
    return as_rows(entity, await rows_of(session, rows_by(column, one=one), given))


def each_of(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[Any]:
    """What `column` is compared with to find any of `values`: one array, so that their number makes no new statement."""
    return any_(literal(list(values), ARRAY(column.type)))


class Known(DataLoader[UUID, Shown | None], Generic[Shown]):
    """A loader by id."""

    async def load_known(self, key: UUID) -> Shown:
        """What a foreign key refers to; its absence is a bug of ours."""
        found = await self.load(key)
        assert found is not None, f"no row for the reference {key}"
        return found


class LoaderPart:
    """The loaders of one domain, made in its `__init__` with these methods."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def _known(self, entity: type[RowType], show: Callable[[RowType], Shown]) -> Known[Shown]:
        return Known(load_fn=self._fetch_by(entity, entity.id, show))

    def _numbered(
        self, entity: type[Numbered], show: Callable[[Numbered], Shown]
    ) -> DataLoader[UUID, Shown | None]:
        """Rows with a number as their key; their global ids carry it as a UUID's integer."""

        async def fetch(keys: list[UUID]) -> list[Shown | None]:
            numbers = [key.int for key in keys if key.int < 1 << 63]
            async with self._reading.session() as session:
                rows = await find_by(session, entity, entity.id, numbers)
            by_number = {row.id: show(row) for row in rows}
            return [by_number.get(key.int) for key in keys]

        return DataLoader(load_fn=fetch)

    def _by(
        self, entity: type[Table], column: InstrumentedAttribute[Key], show: Callable[[Table], Shown]
    ) -> DataLoader[Key, Shown | None]:
        return DataLoader(load_fn=self._fetch_by(entity, column, show))

    def _fetch_by(
        self, entity: type[Table], column: InstrumentedAttribute[Key], show: Callable[[Table], Shown]
    ) -> Callable[[list[Key]], Awaitable[list[Shown | None]]]:
        """Rows by a unique column, in one statement."""

        async def fetch(keys: list[Key]) -> list[Shown | None]:
            async with self._reading.session() as session:
                rows = await find_by(session, entity, column, keys)
            by_key = {getattr(row, column.key): show(row) for row in rows}
            return [by_key.get(key) for key in keys]

        return fetch

    def _accounts(
        self, kind: AccountKind, show: Callable[[ledger.LedgerAccount | None], Shown]
    ) -> DataLoader[UUID, Shown]:
        """Each owner's dollar account of `kind`; None for an owner to whom no money has moved yet."""

        async def fetch(owner_ids: list[UUID]) -> list[Shown]:
            account = ledger.LedgerAccount
            statement = select(account.__table__).where(
                account.kind == kind,
                account.owner_id == each_of(account.owner_id, owner_ids),
                account.asset == Asset.USD,
            )
            async with self._reading.session() as session:
                rows = as_rows(account, await session.execute(statement))
            by_owner = {row.owner_id: row for row in rows}
            return [show(by_owner.get(owner_id)) for owner_id in owner_ids]

        return DataLoader(load_fn=fetch)

    def _each(self, read: Callable[[AsyncSession, Asked], Awaitable[Found]]) -> DataLoader[Asked, Found]:
        """One statement for each thing that is asked; the same thing is asked once."""

        async def fetch(keys: list[Asked]) -> list[Found | Exception]:
            found: list[Found | Exception] = []
            for key in keys:
                try:
                    async with self._reading.session() as session:
                        found.append(await read(session, key))
                except DomainError as error:  # Of this key alone.
                    found.append(error)
            return found

        return DataLoader(load_fn=fetch)

    def _pages(
        self,
        listing: Listing[RowType, Shown],
        parent: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
        *,
        joined: Callable[[Select[Any]], Select[Any]] = lambda statement: statement,
    ) -> Pages[Shown]:
        """The list's pages of many parents: one statement for each page that differs in its arguments."""

        async def fetch(keys: list[tuple[UUID, Page]]) -> list[Connection[Shown]]:
            parents_by_page: dict[Page, list[UUID]] = defaultdict(list)
            for parent_id, page in keys:
                parents_by_page[page].append(parent_id)
            found: dict[tuple[UUID, Page], Connection[Shown]] = {}
            for page, parents in parents_by_page.items():
                async with self._reading.session() as session:
                    pages = await pages_by_parent(
                        session, listing, parent, parents=parents, page=page, joined=joined
                    )
                found |= {(parent_id, page): connection for parent_id, connection in pages.items()}
            return [found[key] for key in keys]

        return DataLoader(load_fn=fetch)

    def _wished(
        self,
        listing_of: Callable[[Wish], Listing[RowType, Shown]],
        parent: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    ) -> DataLoader[tuple[UUID, Page, Wish], Connection[Shown]]:
        """As `_pages`, of lists that are also narrowed by a wish: one statement for each page and wish that differ."""

        async def fetch(keys: list[tuple[UUID, Page, Wish]]) -> list[Connection[Shown]]:
            parents: dict[tuple[Page, Wish], list[UUID]] = defaultdict(list)
            for parent_id, page, wish in keys:
                parents[page, wish].append(parent_id)
            found: dict[tuple[UUID, Page, Wish], Connection[Shown]] = {}
            for (page, wish), parent_ids in parents.items():
                async with self._reading.session() as session:
                    pages = await pages_by_parent(
                        session, listing_of(wish), parent, parents=parent_ids, page=page
                    )
                found |= {(parent_id, page, wish): connection for parent_id, connection in pages.items()}
            return [found[key] for key in keys]

        return DataLoader(load_fn=fetch)

    def _few(
        self, entity: type[RowType], column: InstrumentedAttribute[Key], show: Callable[[RowType], Shown]
    ) -> DataLoader[Key, list[Shown]]:
        """The first rows of each parent, for lists that do not grow; in one statement."""

        async def fetch(keys: list[Key]) -> list[list[Shown]]:
            place = func.row_number().over(partition_by=column, order_by=entity.id)
            first = select(entity.id, place.label("place")).where(column == each_of(column, keys)).subquery()
            statement = (
                select(entity.__table__)
                .join(first, first.c.id == entity.id)
                .where(first.c.place <= FEW_MAX)
                .order_by(entity.id)
            )
            found: dict[Key, list[Shown]] = {key: [] for key in keys}
            async with self._reading.session() as session:
                for row in as_rows(entity, await session.execute(statement)):
                    found[getattr(row, column.key)].append(show(row))
            return [found[key] for key in keys]

        return DataLoader(load_fn=fetch)
