"""Sessions: one request or task is one transaction, committed at the edge.

Services take an `AsyncSession`, flush and never commit. Two exceptions are declared: the gateway (hold | stream |
record) and pipelines (load | work | apply) hold no transaction over the network.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

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
    """An engine on `url` with at most `2 * pool_size` connections; a dead connection is noticed before use."""
    return create_async_engine(
        sqlalchemy_url(url), pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, pool_timeout=10
    )


def make_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions on `engine` whose objects stay readable after the commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def session_scope(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    async with sessions() as session, session.begin():
        yield session
