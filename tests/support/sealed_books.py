"""Books with two days of business, their snapshots, and seals on every transfer; a copy for each test that spoils them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from raymart_billing.connections import Connection, make_pool
from raymart_billing.ledger.seal import seal
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from support.books import Books
from support.empty_database import name_of, new_database

SEAL_KEY = b"k" * 32


async def fill(url: str) -> None:
    """Two days of business; the first day's snapshot is dated back, as a superuser can."""
    async with make_pool(url, size_max=2) as pool:
        await trade(Books(pool))
        async with pool.connection() as connection:
            await connection.execute("select ledger_take_snapshot()")
            await set_back(connection)
        for _ in range(3):
            await trade(Books(pool))
        async with pool.connection() as connection:
            await connection.execute("select ledger_take_snapshot()")
        await trade(Books(pool))
        async with pool.connection() as connection:
            await seal(connection, key=SEAL_KEY, head_file=None)


async def set_back(connection: Connection) -> None:
    """Make today's snapshot yesterday's."""
    async with connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        for table in ("ledger_snapshot", "account_snapshot"):
            await connection.execute(f"update {table} set day = day - 1".encode())


async def trade(books: Books) -> None:
    """A grant, an open hold, a released one, two captured usages."""
    await books.fund(10_000)
    gone, first, second = new_id(), new_id(), new_id()
    await books.hold(new_id(), 100)
    await books.hold(gone, 100)
    await books.hold(first, 500)
    await books.value("select ledger_void_hold(%s)", f"hold:{gone}")
    await books.capture({first: 200, second: 50})


@pytest.fixture(scope="session")
def books_template(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """Name of a database whose books are sound, sealed and have a snapshot; transfers came after it too."""
    with new_database(postgres, template=migrated_template) as url:
        asyncio.run(fill(url))
        yield name_of(url)


@pytest.fixture
def sound_url(postgres: EmbeddedPostgres, books_template: str) -> Iterator[str]:
    """URL, as superuser, of a copy of the template."""
    with new_database(postgres, template=books_template) as url:
        yield url


@pytest.fixture
async def sound(sound_url: str) -> AsyncIterator[Connection]:
    """An autocommit connection to `sound_url`."""
    async with await psycopg.AsyncConnection.connect(sound_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def sound_books(sound_url: str) -> AsyncIterator[Books]:
    """A new customer and provider in the database of `sound_url`."""
    async with make_pool(sound_url, size_max=4) as pool:
        yield Books(pool)
