"""One node's link, as far as weights go: it is told what to hold, and its asks are answered, one after the other."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import DomainError, Unavailable
from raymart_core.wire.link import ArtifactAsk, ArtifactRefusal, ModelCache, Prefetch
from raymart_marketplace.catalog.grants import RevisionGrant
from raymart_marketplace.supply.holders import Holder, cached_digests, is_loopback
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.link.wanted import WantedRounds
from raymart_marketplace.supply.weights import WeightsDesk

log = structlog.get_logger()

_ASKS_MAX = 64
"""Asks of one node that wait; one more is refused."""
_AGAIN_S = 5.0
"""After the database was away."""
_GRANT_KEPT_S = 30.0
"""A model of many files is asked for page by page; the database is asked once."""


class WeightsDuty:
    """Told of the node's announcements and asks by its `NodeDuty`, which runs it beside its own work."""

    def __init__(self, context: LinkContext, desk: WeightsDesk, wanted: WantedRounds) -> None:
        self._context = context
        self._desk = desk
        self._wanted = wanted
        self._cache: ModelCache | None = None
        self._asks: deque[ArtifactAsk] = deque()
        self._kick = asyncio.Event()
        self._told: tuple[str, ...] | None = None
        self._kept: tuple[str, ...] | None = None
        self._grant: RevisionGrant | None = None
        self._grant_at = 0.0

    def announced(self, cache: ModelCache | None) -> None:
        """What the node's cache holds; None for a node without one, which is told nothing."""
        first, self._cache = self._cache is None, cache
        if cache is None:
            self._wanted.forget(self._context.identity.node_id, self._tell_wanted)
        else:
            if first:
                self._wanted.watch(self._context.identity.node_id, self._tell_wanted)
            self._context.holders.announce(self._context.identity, self._context.link, cache)
            self._kick.set()

    def ask(self, ask: ArtifactAsk) -> None:
        """Queue the ask, or refuse it at once."""
        if len(self._asks) >= _ASKS_MAX:
            self._refuse(ask, f"{_ASKS_MAX} asks of this node wait already; ask again", retry=True)
            return
        self._asks.append(ask)
        self._kick.set()

    async def run(self) -> None:
        """Answer and tell until cancelled."""
        while True:
            self._kick.clear()
            while self._asks:
                await self._answer(self._asks.popleft())
            is_kept = self._cache is None or await self._keep_cached(self._cache)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_kept else _AGAIN_S):
                    await self._kick.wait()

    def lost(self) -> None:
        """The link is gone."""
        self._wanted.forget(self._context.identity.node_id, self._tell_wanted)
        self._context.holders.forget(self._context.identity.node_id, self._context.link)

    async def _answer(self, ask: ArtifactAsk) -> None:
        try:
            async with asyncio.timeout(self._context.limits.step_timeout_s):
                grant = await self._granted(ask)
                page = await self._desk.page(grant, ask, self._holders(ask.revision))
        except (SQLAlchemyError, OSError, Unavailable) as error:
            log.warning("weights.unavailable", node=self._context.link.name, reason=str(error)[:200])
            self._refuse(ask, "the marketplace cannot look now; ask again", retry=True)
        except DomainError as error:
            log.info("weights.refused", node=self._context.link.name, reason=error.message)
            self._refuse(ask, error.message, retry=False)
        else:
            self._context.link.outbox.control(page)

    async def _granted(self, ask: ArtifactAsk) -> RevisionGrant:
        """The first page is looked up anew, so that what was taken from the node stays taken."""
        kept = self._grant
        fresh = time.monotonic() - self._grant_at < _GRANT_KEPT_S
        if kept is None or kept.digest != ask.revision or ask.first <= 0 or not fresh:
            kept = await self._desk.grant(self._context.identity.node_id, ask.revision)
            self._grant, self._grant_at = kept, time.monotonic()
        return kept

    def _holders(self, revision: str) -> Sequence[Holder]:
        cache = self._cache
        from_loopback = cache is not None and is_loopback(cache.address)
        return self._context.holders.of(revision, asker=self._context.identity, from_loopback=from_loopback)

    def _tell_wanted(self, digests: Sequence[str]) -> None:
        wanted = tuple(digests)
        if wanted != self._told:
            self._told = wanted
            self._context.link.outbox.control(Prefetch(revisions=wanted))

    async def _keep_cached(self, cache: ModelCache) -> bool:
        """Keep what the node holds, for planning, by other processes too; False when the database was away."""
        held = cached_digests(cache)
        if held == self._kept:
            return True
        try:
            async with asyncio.timeout(self._context.limits.step_timeout_s):
                await self._desk.keep_cached(self._context.identity.node_id, held)
        except (SQLAlchemyError, OSError) as error:
            log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
            return False
        self._kept = held
        return True

    def _refuse(self, ask: ArtifactAsk, message: str, *, retry: bool) -> None:
        self._context.link.outbox.control(ArtifactRefusal(ask=ask.ask, message=message[:500], retry=retry))
