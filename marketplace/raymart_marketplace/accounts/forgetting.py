"""Ends what processes remember of a credential: here at once, in the others as soon as Redis has told them.

Without Redis the others look the credential up again within the authenticator's `ttl_s`, as they always do. News that
was missed while the subscription was away needs no repeat for the same reason.
"""

import asyncio
import contextlib
from enum import StrEnum
from uuid import UUID

import structlog

from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

CHANNEL = "raymart:credentials:forget"
RETRY_S = 1.0
POLL_S = 1.0
"""How long one wait for news lasts; a connection that broke is noticed by then."""


class Forgotten(StrEnum):
    """What kind of thing changed."""

    KEY = "key"
    USER = "user"
    SESSION = "session"
    PROJECT = "project"


async def tell(redis: Redis, what: Forgotten, identity: UUID) -> None:
    """Tell every process that serves to forget; for one that serves nobody itself. Call it after the commit."""
    try:
        await redis.publish(CHANNEL, f"{what.value}:{identity.hex}")
    except REDIS_AWAY as error:
        log.warning("forgetting.untold", what=what.value, error=type(error).__name__)


class Forgetting:
    """Tells this process and all others to forget. One per process."""

    def __init__(self, authenticator: Authenticator, redis: Redis) -> None:
        self._authenticator = authenticator
        self._redis = redis
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        self.listening = asyncio.Event()
        """Set while news of other processes arrives."""

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def key(self, api_key_id: UUID) -> None:
        """The key was revoked, rotated or changed. Call it after the commit."""
        await self._forget(Forgotten.KEY, api_key_id)

    async def user(self, user_id: UUID) -> None:
        """The user was disabled, their sessions ended, or their memberships changed. Call it after the commit."""
        await self._forget(Forgotten.USER, user_id)

    async def session(self, session_id: UUID) -> None:
        """The log-in was ended. Call it after the commit."""
        await self._forget(Forgotten.SESSION, session_id)

    async def project(self, project_id: UUID) -> None:
        """What holds for all of the project's keys was changed. Call it after the commit."""
        await self._forget(Forgotten.PROJECT, project_id)

    async def _forget(self, what: Forgotten, identity: UUID) -> None:
        self._here(what, identity)
        await tell(self._redis, what, identity)

    def _here(self, what: Forgotten, identity: UUID) -> None:
        match what:
            case Forgotten.KEY:
                self._authenticator.forget(identity)
            case Forgotten.USER:
                self._authenticator.forget_user(identity)
            case Forgotten.SESSION:
                self._authenticator.forget_session(identity)
            case Forgotten.PROJECT:
                self._authenticator.forget_project(identity)

    async def _run(self) -> None:
        """Listen for ever; while Redis is away, try again every second."""
        while True:
            try:
                await self._listen()
            except REDIS_AWAY as error:
                if not self._is_away:  # Once an outage.
                    log.warning("forgetting.deaf", error=type(error).__name__)
                self._is_away = True
            finally:
                self.listening.clear()
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Forget what other processes say. Raises: what a Redis that is away raises."""
        async with self._redis.pubsub() as news:
            await news.subscribe(CHANNEL)
            while True:
                message = await news.get_message(timeout=POLL_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self._is_away = False
                    self.listening.set()
                elif message["type"] == "message":
                    self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        kind, _, identity = data.decode("ascii", "replace").partition(":")
        try:
            what, who = Forgotten(kind), UUID(hex=identity)
        except ValueError:
            # A newer release may say more than this one understands.
            log.warning("forgetting.unknown_news", kind=kind[:20])
            return
        self._here(what, who)
