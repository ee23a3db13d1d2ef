"""Databases of a test's own on the session's server: empty, or a copy of a template."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres


@contextmanager
def new_database(postgres: EmbeddedPostgres, *, template: str = "template1") -> Iterator[str]:
    """Its URL, as superuser. The template must have no connections at this moment; copying it takes 40 ms."""
    name = f"test_{new_id().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        # By files: half the time of the default, which writes the copy to the log that this server does not keep anyway.
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield urlsplit(postgres.url)._replace(path=f"/{name}").geturl()
        connection.execute(f"drop database {name} with (force)")


def name_of(url: str) -> str:
    """Name of the database of `url`, as a template's."""
    return urlsplit(url).path.removeprefix("/")


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of an empty database on the session's server."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def migrated_database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """URL of a database at the newest migration in which nothing has happened yet."""
    with new_database(postgres, template=migrated_template) as url:
        yield url
