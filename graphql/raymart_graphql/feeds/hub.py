"""Fans states out to the followers in this process.

One task listens to hints on one Redis connection. One task reads: each topic that somebody follows and a hint names, at
most once a `TICK_S`, all topics of a kind in one statement; and every followed topic once in a while, because a hint may
be lost, or be none: while Redis is away this polling is all there is. Each follower has one slot that holds the newest
state, so a slow one costs no memory and misses states, never the last.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_graphql.feeds.events import State
from raymart_graphql.feeds.hints import CHANNEL, EVERYBODY, Kind, Topic, decoded
from raymart_graphql.feeds.readers import READERS, Reader
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

TICK_S = 1.0
"""Shortest time between two reads of a topic."""
POLL_S: Mapping[Kind, float] = {Kind.USAGE: 10.0, Kind.BALANCE: 10.0, Kind.NODES: 2.0}
"""Longest time between two reads of a followed topic. Machines give no hints: their links commit a state of their own."""
POLL_DEAF_S = 3.0
"""The same while Redis is away."""
READ_TIMEOUT_S = 10.0
READ_MAX = 1_000
"""Topics of one statement."""
STEP_S = 0.05
"""How long hints gather before they are read."""
RETRY_S = 1.0
LISTEN_S = 1.0
"""How long one wait for hints lasts; a connection that broke is noticed by then."""


class Slot:
    """What one follower gets next."""

    __slots__ = ("_state", "_waiter", "latest")

    def __init__(self) -> None:
        self.latest: State | None = None
        """The last that was put."""
        self._state: State | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, state: State) -> None:
        """Replace what was not taken."""
        self._state = self.latest = state
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> State:
        """The newest state, once."""
        while self._state is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        state, self._state = self._state, None
        return state


@dataclass(slots=True)
class _Followed:
    """A topic that somebody follows."""

    slots: set[Slot] = field(default_factory=set)
    state: State | None = None
    read_at: float = -math.inf
    """On the loop's clock."""
    is_stale: bool = True
    """Whether it should be read as soon as its tick allows."""


class Hub:
    """The feeds of one process."""

    def __init__(self, sessions: Sessions, redis: Redis, readers: Mapping[Kind, Reader] = READERS) -> None:
        self._sessions = sessions
        self._redis = redis
        self._readers = readers
        self._followed: dict[Topic, _Followed] = {}
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_failing = False
        self.listening = asyncio.Event()
        """Set while hints arrive."""

    def start(self) -> None:
        """Begin to listen and read."""
        self._tasks = [
            asyncio.create_task(self._listen_forever(), name="feed-listener"),
            asyncio.create_task(self._read_forever(), name="feed-reader"),
        ]

    async def stop(self) -> None:
        """Read no more. Followers wait for ever: their sockets are closed before."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def __len__(self) -> int:
        """Followers."""
        return sum(len(followed.slots) for followed in self._followed.values())

    async def follow(self, topic: Topic) -> AsyncGenerator[State, None]:
        """The topic's present state, read after this call, then each that differs; without end."""
        followed = self._followed.setdefault(topic, _Followed())
        slot = Slot()
        followed.slots.add(slot)
        # What others were shown may be a poll old: a newcomer must not miss what was committed before it came.
        if followed.state is not None and self._now() - followed.read_at < TICK_S and not followed.is_stale:
            slot.put(followed.state)
        else:
            followed.is_stale = True
            self._work.set()
        try:
            seen = None
            while True:
                state = await slot.take()
                if state is not seen:
                    yield state
                seen = state
        finally:
            followed.slots.discard(slot)
            if not followed.slots and self._followed.get(topic) is followed:
                del self._followed[topic]

    def hear(self, topic: Topic) -> None:
        """Take a hint."""
        if topic.of == EVERYBODY:
            for each, followed in self._followed.items():
                followed.is_stale |= each.kind is topic.kind
        elif (known := self._followed.get(topic)) is not None:
            known.is_stale = True
        else:
            return
        self._work.set()

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            except REDIS_AWAY as error:
                if self.listening.is_set():  # Once an outage.
                    log.warning("feeds.deaf", error=type(error).__name__)
            finally:
                self.listening.clear()
            self._work.set()  # From now on it polls more often.
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Take hints. Raises: what a Redis that is away raises."""
        async with self._redis.pubsub() as news:
            await news.subscribe(CHANNEL)
            while True:
                message = await news.get_message(timeout=LISTEN_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self.listening.set()
                    # What was said meanwhile was not heard.
                    for kind in Kind:
                        self.hear(Topic(kind, EVERYBODY))
                elif message["type"] == "message":
                    for topic in decoded(message["data"]):
                        self.hear(topic)

    async def _read_forever(self) -> None:
        while True:
            pause = self._seconds_to_next()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._work.wait()
            await asyncio.sleep(STEP_S)
            self._work.clear()
            for kind in Kind:
                await self._read_due(kind)

    def _seconds_to_next(self) -> float | None:
        """Until the next topic is due; None while nothing is followed."""
        now = self._now()
        return min((max(0.0, self._due_at(*each) - now) for each in self._followed.items()), default=None)

    def _due_at(self, topic: Topic, followed: _Followed) -> float:
        poll_s = POLL_S[topic.kind] if self.listening.is_set() else min(POLL_DEAF_S, POLL_S[topic.kind])
        return followed.read_at + (TICK_S if followed.is_stale else poll_s)

    async def _read_due(self, kind: Kind) -> None:
        now = self._now()
        due = [
            topic.of
            for topic, followed in self._followed.items()
            if topic.kind is kind and self._due_at(topic, followed) <= now
        ]
        for start in range(0, len(due), READ_MAX):
            await self._read(kind, due[start : start + READ_MAX])

    async def _read(self, kind: Kind, ids: list[UUID]) -> None:
        """Read and fan out. What fails is due again after a tick."""
        for each in ids:
            if (followed := self._followed.get(Topic(kind, each))) is not None:
                # Before the read: a hint that comes meanwhile may tell of what it does not see.
                followed.is_stale, followed.read_at = False, self._now()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), session_scope(self._sessions) as session:
                states = await self._readers[kind](session, ids)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not self._is_failing:  # Once an outage.
                log.warning("feeds.unread", kind=kind.name, error=type(error).__name__)
            self._is_failing = True
            for each in ids:
                self.hear(Topic(kind, each))
            return
        self._is_failing = False
        for each, state in states.items():
            self._show(Topic(kind, each), state)

    def _show(self, topic: Topic, state: State) -> None:
        followed = self._followed.get(topic)
        if followed is None:
            return
        if followed.state == state:
            # The same object for all, so that what is made of it is made once.
            state = followed.state
        elif followed.state is not None:
            followed.state.made.clear()  # It leads to the states before, and they to theirs.
        followed.state = state
        for slot in followed.slots:
            if slot.latest is not state:
                slot.put(state)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
