"""Hints that something was committed: which state is worth reading again. Lost hints cost time, never truth."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import structlog

from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

CHANNEL = "raymart:feeds"
"""One for all topics: a hint is 17 bytes and a look into a dictionary, and nobody has to subscribe before reading."""
GATHER_S = 0.1
"""How long hints gather before they are sent."""
PENDING_MAX = 10_000
"""Topics that may wait to be sent; beyond, hints are dropped, and followers find out when they poll."""
EVERYBODY = UUID(int=0)
"""In place of an id: all topics of a kind."""
_BYTES = 17


class Kind(StrEnum):
    """What a topic is about. The value is its letter in a hint."""

    USAGE = "u"
    """Of an organization."""
    BALANCE = "b"
    """Of an organization."""
    NODES = "n"
    """Of a provider."""


class Topic(NamedTuple):
    """One state that can be followed."""

    kind: Kind
    of: UUID


class Hints:
    """Sends hints of this process to all, itself included. One per process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pending: set[Topic] = set()
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="feed-hints")

    async def stop(self) -> None:
        """Send no more; what waits is dropped."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def give(self, kind: Kind, ids: Iterable[UUID]) -> None:
        """Say that the state of `ids` has changed. After the commit; never blocks, never raises."""
        if len(self._pending) < PENDING_MAX:
            self._pending.update(Topic(kind, each) for each in ids)
            self._waiting.set()

    def usage_posted(self, organization_ids: Iterable[UUID]) -> None:
        """The ledger took usage of these customers."""
        ids = list(organization_ids)
        self.give(Kind.USAGE, ids)
        self.give(Kind.BALANCE, ids)

    async def _run(self) -> None:
        while True:
            await self._waiting.wait()
            await asyncio.sleep(GATHER_S)
            self._waiting.clear()
            topics, self._pending = self._pending, set()
            try:
                await self._redis.publish(CHANNEL, encoded(topics))
                self._is_away = False
            except REDIS_AWAY as error:
                if not self._is_away:  # Once an outage.
                    log.warning("hints.unsent", topics=len(topics), error=type(error).__name__)
                self._is_away = True


def encoded(topics: Iterable[Topic]) -> bytes:
    """`topics` as a message: a letter and the id's 16 bytes each."""
    return b"".join(topic.kind.value.encode() + topic.of.bytes for topic in topics)


def decoded(message: bytes) -> Sequence[Topic]:
    """What `encoded` wrote; kinds of a newer release are left out."""
    found = []
    for start in range(0, len(message) - _BYTES + 1, _BYTES):
        with contextlib.suppress(ValueError):
            kind = Kind(message[start : start + 1].decode("ascii", "replace"))
            found.append(Topic(kind, UUID(bytes=message[start + 1 : start + _BYTES])))
    return found
