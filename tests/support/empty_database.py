"""A database of its own for each test that takes a schema apart."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of an empty database on the session's server."""
    name = f"test_{new_id().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield urlsplit(postgres.url)._replace(path=f"/{name}").geturl()
        connection.execute(f"drop database {name} with (force)")
