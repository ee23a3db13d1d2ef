"""Imports httpx, redis, structlog and uvicorn without what they take along only because it is installed.

The command line brings rich, Ray brings OpenTelemetry, development brings watchfiles: memory of a process that writes its
logs as JSON, keeps its metrics itself and does not reload. Import this before anything that imports one of the four.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Modules imported in the block find none of `packages`; one that is loaded already stays, and may be found."""
    hidden = [each for each in packages if each not in sys.modules]
    # None makes the import system raise ModuleNotFoundError, as for what is not installed.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # typeshed leaves out None
    try:
        yield
    finally:
        for each in hidden:
            del sys.modules[each]


with without("opentelemetry", "pygments", "rich", "watchfiles"):
    import httpx
    import redis.asyncio
    import structlog
    import uvicorn

__all__ = ["httpx", "redis", "structlog", "uvicorn", "without"]
