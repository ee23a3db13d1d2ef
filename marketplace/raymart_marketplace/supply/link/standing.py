"""One node's link, as far as its place in the market goes: draining, its key, its clock.

The node asks (`DrainAsk`, `RotateKey`), or somebody decides elsewhere and `look` is called; either way the node is told by
`Drain` when it stands otherwise than it was told last.
"""

import asyncio
import time
from collections import deque

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import DomainError
from raymart_core.wire.membership import Drain, DrainAsk, KeyRotated, RotateKey
from raymart_marketplace.audit import Act, Actor, ActorKind, acting
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.draining import drain_node, resume_node
from raymart_marketplace.supply.key_rotation import rotate_key
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.standing import Standing

log = structlog.get_logger()

_ASKS_MAX = 16
"""Asks of one node that wait; one more is dropped, for a node that asks so often has had its answer."""
_RETRY_S = 1.0
_SKEWS_KEPT = 8


class ClockSkew:
    """How far a node's clock is ahead of ours, by what it says with each heartbeat.

    A word that is late makes the clock seem slow and never fast, so of the last few the greatest is the nearest.
    """

    def __init__(self) -> None:
        self._skews_ms: deque[int] = deque(maxlen=_SKEWS_KEPT)

    def heard(self, clock_ms: int) -> None:
        """The node said that it is `clock_ms` (Unix time)."""
        self._skews_ms.append(clock_ms - time.time_ns() // 1_000_000)

    @property
    def is_sure(self) -> bool:
        """Whether enough was heard that a clock which seems slow is not just a word that came late."""
        return len(self._skews_ms) == _SKEWS_KEPT

    @property
    def ms(self) -> int | None:
        """The skew; None before the first word."""
        return max(self._skews_ms, default=None)


class StandingDuty:
    """Run by the duty of a node's link, beside its own work."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._asks: deque[DrainAsk | RotateKey] = deque()
        self._kick = asyncio.Event()
        self._kick.set()
        self._looks = True
        self._answers = False
        self._told = Standing()

    def ask(self, message: DrainAsk | RotateKey) -> None:
        """Queue what the node wants."""
        if len(self._asks) < _ASKS_MAX:
            self._asks.append(message)
            self._kick.set()

    def look(self) -> None:
        """Something about the node was changed."""
        self._looks = True
        self._kick.set()

    async def run(self) -> None:
        """Answer and tell until cancelled."""
        while True:
            await self._kick.wait()
            self._kick.clear()
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    while self._asks:
                        await self._answer(self._asks[0])
                        self._asks.popleft()
                    if self._looks:
                        await self._tell()
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                self._kick.set()
                await asyncio.sleep(_RETRY_S)

    async def _answer(self, message: DrainAsk | RotateKey) -> None:
        """Once for each ask, whatever it leads to. Raises: SQLAlchemyError, OSError, and then nothing was done."""
        if isinstance(message, DrainAsk):
            await self._drain(message)
        else:
            await self._rotate(message)

    async def _drain(self, ask: DrainAsk) -> None:
        node_id, actor = self._context.identity.node_id, self._actor
        try:
            with acting(Act(action="resumeNode" if ask.resume else "drainNode", actor=actor)):
                async with session_scope(self._context.sessions) as session:
                    if ask.resume:
                        await resume_node(session, node_id=node_id, reason=ask.reason)
                    else:
                        await drain_node(session, node_id=node_id, notice_s=ask.notice_s, reason=ask.reason)
        except DomainError as error:
            log.info("node.drain_refused", node=self._context.link.name, reason=error.message)
        # The node waits for an answer, also where nothing had to be changed.
        self._answers = self._looks = True

    async def _rotate(self, message: RotateKey) -> None:
        try:
            with acting(Act(action="rotateNodeKey", actor=self._actor)):
                async with session_scope(self._context.sessions) as session:
                    await rotate_key(
                        session, self._context.identity.node_id, message, server=self._context.server_name
                    )
        except DomainError as error:
            log.warning("node.rotation_refused", node=self._context.link.name, reason=error.message)
            answer = KeyRotated(public_key=message.public_key, problem=error.message)
        else:
            answer = KeyRotated(public_key=message.public_key)
        self._context.link.outbox.control(answer)

    async def _tell(self) -> None:
        self._looks = False
        try:
            standing = await self._context.roll.standing(self._context.identity.node_id)
        except (SQLAlchemyError, OSError):
            self._looks = True
            raise
        news = (standing.draining, standing.until) != (self._told.draining, self._told.until)
        if news or self._answers:
            message = Drain(draining=standing.draining, notice_s=standing.notice_s, reason=standing.reason)
            self._context.link.outbox.control(message)
        self._told, self._answers = standing, False

    @property
    def _actor(self) -> Actor:
        return Actor(kind=ActorKind.NODE, id=self._context.identity.node_id)
