"""Sessions: one request or task is one transaction, committed at the edge.

Services take an `AsyncSession`, flush and never commit. Two exceptions are declared: the gateway (hold | stream |
record) and pipelines (load | work | apply) hold no transaction over the network.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from raymart_marketplace.audit.recording import RecordedSession

UNCHECKED_S = 1.0
"""How long after its use a pooled connection is taken to be alive."""
_USED = "raymart.used"
"""Key in a pooled connection's `info`: when it was given back, on the monotonic clock."""

Sessions = async_sessionmaker[AsyncSession]
"""Makes sessions; passed down from the composition root."""


def sqlalchemy_url(url: str) -> str:
    """`url` (postgresql://...) with the psycopg 3 driver named, as SQLAlchemy wants it."""
    scheme, _, rest = url.partition("://")
    assert scheme in {"postgresql", "postgres", "postgresql+psycopg"}, (
        f"not a PostgreSQL URL: scheme {scheme!r}"
    )
    return f"postgresql+psycopg://{rest}"


def make_engine(url: str, *, pool_size: int = 10) -> AsyncEngine:
    """An engine on `url` with at most `2 * pool_size` connections; a dead connection is noticed before use.

    One that was in use within the last `UNCHECKED_S` is believed: to ask it costs a round trip, as much as a statement.
    The one used last is used next, so that few connections have what is used prepared.
    """
    engine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        pool_use_lifo=True,
        # An error's text goes into logs and into the rows of work that failed; names, addresses and hashes must not.
        hide_parameters=True,
    )
    dialect = engine.sync_engine.dialect

    def note_use(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[_USED] = time.monotonic()

    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        used = record.info.get(_USED)
        if used is None or time.monotonic() - used < UNCHECKED_S:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error:
            # Those beside it are as old: the pool forgets them all and connects anew.
            raise InvalidatePoolError from None

    event.listen(engine.sync_engine, "checkin", note_use)
    event.listen(engine.sync_engine, "checkout", check)
    return engine


def make_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions on `engine` whose objects stay readable after the commit, and whose commits write the audit log."""
    return async_sessionmaker(engine, expire_on_commit=False, sync_session_class=RecordedSession)


@asynccontextmanager
async def session_scope(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    async with sessions() as session, session.begin():
        yield session
