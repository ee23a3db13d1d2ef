"""Looks for strings that must not be kept, wherever this marketplace keeps anything.

Everything is enumerated, not listed: all tables of the catalog, all keys of Redis, all files below a folder. A place
that somebody adds later is searched too.
"""

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg import sql
from redis.asyncio import Redis

from raymart_core.logs import configure_logs

CLIENTS = ("httpx", "httpcore", "websockets.client")
"""Loggers of the test's own HTTP clients: they are customers, and what customers log is theirs."""


def forms(canary: str) -> tuple[str, ...]:
    """How `canary` may lie somewhere: as it is, in base64 at each of the three offsets, in hex."""
    data = canary.encode()
    # The first and the last characters of base64 depend on the neighbours, so they are left out.
    shifted = [base64.b64encode(b"\0" * offset + data).decode()[4:-4] for offset in range(3)]
    return (canary, *shifted, data.hex())


class Search:
    """Finds any of `canaries`; each method returns the places where one lies, named."""

    def __init__(self, *canaries: str) -> None:
        self._forms = [form for canary in canaries for form in forms(canary)]

    def holds(self, text: str) -> bool:
        """Whether one of the canaries is in `text`."""
        return any(form in text for form in self._forms)

    def tables(self, owner_url: str, *, but: Sequence[str] = ()) -> list[str]:
        """Tables with a row that holds one, in whatever column; a row's text shows `bytea` in hex."""
        pattern = sql.Literal("|".join(self._forms))
        found = []
        with psycopg.connect(owner_url) as connection:
            listed = connection.execute(
                "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
                " where c.relkind in ('r', 'p', 'm') and not c.relispartition"
                "   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
            ).fetchall()
            assert len(listed) > 40, "the catalog names fewer tables than there are"
            for schema, name in listed:
                # Without the owner's bypass, row-level security would hide rows.
                count = sql.SQL("select count(*) from {} t where t::text ~ {}").format(
                    sql.Identifier(schema, name), pattern
                )
                row = connection.execute(count).fetchone()
                assert row is not None
                if row[0] and name not in but:
                    found.append(f"table {name}")
        return found

    async def redis(self, url: str) -> list[str]:
        """Keys of every database of the server whose name or value holds one; DUMP shows values of all types."""
        found = []
        async with Redis.from_url(url) as redis:
            async for key in redis.scan_iter(count=1_000):
                if self.holds(repr(key)) or self.holds(repr(await _value(redis, key))):
                    found.append(f"redis {key!r}")
        return found

    def files(self, *folders: Path) -> list[str]:
        """Files below `folders` that hold one."""
        return [
            f"file {path.name}"
            for folder in folders
            for path in sorted([folder, *folder.rglob("*")])
            if path.is_file() and self.holds(path.read_bytes().decode("latin-1"))
        ]


async def _value(redis: Redis, key: bytes) -> Any:
    """The whole value, as Redis's own commands return it. `DUMP` would compress long strings."""
    kind = (await redis.type(key)).decode()
    readers = {
        "string": lambda: redis.get(key),
        "hash": lambda: redis.hgetall(key),
        "list": lambda: redis.lrange(key, 0, -1),
        "set": lambda: redis.smembers(key),
        "zset": lambda: redis.zrange(key, 0, -1),
        "stream": lambda: redis.xrange(key),
    }
    return None if kind == "none" else await readers[kind]()


@contextmanager
def all_logs() -> Iterator[StringIO]:
    """What this process logs meanwhile at level DEBUG, by structlog as in production and by the standard library."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    root, clients = logging.getLogger(), [logging.getLogger(name) for name in CLIENTS]
    before = structlog.get_config()
    level, client_levels = root.level, [client.level for client in clients]
    configure_logs(process="test", level="DEBUG", stream=written)
    structlog.configure(cache_logger_on_first_use=False)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for client in clients:
        client.setLevel(logging.CRITICAL)
    # As `serving.py` has it in production, where no handler would show these lines besides.
    server, server_level = logging.getLogger("uvicorn.error"), logging.getLogger("uvicorn.error").level
    server.setLevel(logging.INFO)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        server.setLevel(server_level)
        for client, was in zip(clients, client_levels, strict=True):
            client.setLevel(was)
        structlog.configure(**before)
        structlog.contextvars.unbind_contextvars("process")
