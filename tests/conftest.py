"""What every test may use: a real, migrated PostgreSQL per session (and per xdist worker)."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import AsyncEngine

from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions
from support.empty_database import name_of, new_database
from support.sealed_books import books_template

__all__ = ["books_template"]

# Set in many container images. Each process that a test starts would compile all that it imports anew: 3 s of CPU for
# one `raymart`, and a stack is twenty processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Properties are about values. On a machine that is busy elsewhere an example may take longer than the default 0.2 s, and
# to make one may too. The same examples each time, so that a change's verdict is about the change; others are tried with
# `--hypothesis-profile=explore`.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("raymart", settings.get_profile("explore"), derandomize=True)
settings.load_profile("raymart")

# Commands run inside this process have its standard streams replaced (`support.command_line`). What a thread of
# another test logs meanwhile must not become a line of theirs.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what starts Ray first: it takes longest, and xdist hands out files in this order."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_collection() -> None:
    """Import without the garbage collector, which would look at all modules again and again: 2.5 of 12 s."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare the collector what was imported to collect the tests: none of it is ever freed.

    It is a gigabyte, and each look at the oldest generation stops whatever test it meets: for 0.6 s on a quiet machine,
    for seconds on a busy one. A gateway that ends in this process makes it visible again (`rare_collections`).
    """
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL of this session. Do not restart it: tests that crash a server start their own.

    It forgets what a power cut would: waiting for the disk at each commit is half of what tests wait for.
    """
    data_dir: Path = tmp_path_factory.mktemp("postgres")
    server = EmbeddedPostgres(data_dir)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.execute(f"alter system set {setting} = off")
        connection.execute("select pg_reload_conf()")
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Name of a database at the newest migration that nobody is connected to, for `new_database`."""
    with new_database(postgres) as url:
        upgrade(url)
        yield name_of(url)


@pytest.fixture(scope="session")
def owner_url(postgres: EmbeddedPostgres) -> str:
    """URL of the session's database as its superuser, for tests that change its schema or switch off its guards."""
    upgrade(postgres.owner_url)
    return postgres.url


@pytest.fixture(scope="session")
def database_url(postgres: EmbeddedPostgres, owner_url: str) -> str:
    """URL of a database at the newest migration, as the runtime's role: what it may not do, no test may rely on.

    Commits are real: use fresh ids instead of a clean database.
    """
    assert owner_url
    return postgres.runtime_url


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A running Redis of this session. Do not restart or flush it: tests that do start their own."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of this test's event loop."""
    engine = make_engine(database_url, pool_size=5)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    """Makes sessions on the session's database; open them with `session_scope`."""
    return make_sessions(engine)
