"""A database in which the past can be written: other tests check the books of theirs."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from raymart_billing.connections import Pool
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import Sessions
from support.old_books import OldBooks


@pytest.fixture(scope="session")
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of a database of this folder's own, at the newest migration, with partitions for last year."""
    name = "old_books"
    url = urlsplit(postgres.url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        upgrade(url)
        yield url
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
async def books(pool: Pool, sessions: Sessions) -> OldBooks:
    """A customer and a provider nobody else uses."""
    return await OldBooks(pool, sessions).found()
