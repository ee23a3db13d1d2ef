"""One machine's link, as far as its pool's Ray cluster goes: its asks for membership, answered one after the other."""

import asyncio
from collections import deque

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.membership import PoolAsk, PoolRefusal
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.membership import MembershipRefused

log = structlog.get_logger()

_ASKS_MAX = 4
"""Asks of one machine that wait; it asks once in days."""


class MembershipDuty:
    """Told of the machine's asks by its duty, which lets it answer between its own work."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._asks: deque[PoolAsk] = deque()

    def ask(self, ask: PoolAsk) -> None:
        """Queue the ask, or refuse it at once."""
        if self._context.pools is None:
            self._refuse("this marketplace keeps no house pools; start Ray on this machine itself")
        elif len(self._asks) >= _ASKS_MAX:
            self._refuse(f"{_ASKS_MAX} asks of this machine wait already; ask again", retry=True)
        else:
            self._asks.append(ask)

    async def answer(self) -> None:
        """Answer what waits. Whatever goes wrong is told to the machine, which asks again."""
        while self._asks:
            await self._answer(self._asks.popleft())

    async def _answer(self, ask: PoolAsk) -> None:
        assert self._context.pools is not None
        try:
            async with asyncio.timeout(self._context.limits.step_timeout_s):
                grant = await self._context.pools.grant(self._context.identity, ask)
        except MembershipRefused as error:
            log.info("membership.refused", node=self._context.link.name, reason=error.message)
            self._refuse(error.message, retry=error.retry)
        except (SQLAlchemyError, OSError) as error:
            log.warning("membership.unavailable", node=self._context.link.name, reason=str(error)[:200])
            self._refuse("the marketplace cannot look now; ask again", retry=True)
        else:
            self._context.link.outbox.control(grant)

    def _refuse(self, message: str, *, retry: bool = False) -> None:
        self._context.link.outbox.control(PoolRefusal(message=message[:500], retry=retry))
