"""Every limit that is set, in this process's memory, so that no request asks the database for it.

All of them are read at the start, and every two seconds those that have changed; at once in the process that changed one.
While the database is away the last that was read stay; before the first read the operator's defaults hold for everybody.
A hundred thousand limits take about 50 MB.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.rate_limits.limits import NO_LIMITS, Level, Limits
from raymart_marketplace.gateway.rate_limits.models import LimitSetter, RateLimit
from raymart_marketplace.gateway.rate_limits.service import limits_of
from raymart_marketplace.oversight.live import UNASKED

log = structlog.get_logger(__name__)

REFRESH_S = 2.0
QUERY_TIMEOUT_S = 5.0
OVERLAP = timedelta(seconds=30)
"""A change is stamped before it is committed, by so much at most: what is read again does no harm."""


class LimitBook:
    """Knows the limits of every caller. One per process; implements `limiter.LimitsOf`."""

    def __init__(
        self, sessions: Sessions, *, organization_default: Limits = NO_LIMITS, refresh_s: float = REFRESH_S
    ) -> None:
        """`organization_default` holds for organizations of which the marketplace has said nothing else."""
        self.version = 0
        """Another one whenever any limit has changed."""
        self._sessions = sessions
        self.organization_default = organization_default
        self._refresh_s = refresh_s
        self._set: dict[tuple[UUID, LimitSetter], Limits] = {}
        self._newest: datetime | None = None
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        self._refresher = asyncio.create_task(self._refresh_forever(), name="limits.refresh")

    async def stop(self) -> None:
        """Stop reading."""
        if self._refresher is not None:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
            self._refresher = None

    def limits_of(self, caller: Caller) -> Sequence[tuple[Level, UUID, Limits]]:
        """The levels of `caller` at which anything is limited, the widest first."""
        levels = [
            (Level.ORGANIZATION, caller.organization_id, self.organization(caller.organization_id)),
            (Level.PROJECT, caller.project_id, self._by_customer(caller.project_id)),
        ]
        if caller.api_key_id is not None:
            levels.append((Level.API_KEY, caller.api_key_id, self._by_customer(caller.api_key_id)))
        return [found for found in levels if found[2]]

    def organization(self, organization_id: UUID) -> Limits:
        """What the organization may do in all: the lower of the marketplace's limit and its own."""
        ours = self._set.get((organization_id, LimitSetter.MARKETPLACE), self.organization_default)
        return ours.within(self._by_customer(organization_id))

    async def refresh(self) -> None:
        """Read what has changed, now. Raises: SQLAlchemyError, OSError, TimeoutError."""
        changed = select(RateLimit)
        if self._newest is not None:
            changed = changed.where(RateLimit.updated_at > self._newest - OVERLAP)
        async with asyncio.timeout(QUERY_TIMEOUT_S), self._sessions() as session:
            await session.connection(execution_options={UNASKED: True})
            for row in await session.scalars(changed):
                self._take(row)

    def _take(self, row: RateLimit) -> None:
        key, limits = (row.scope_id, row.setter), limits_of(row)
        if self._set.get(key, NO_LIMITS) != limits:
            self.version += 1
        if limits:
            self._set[key] = limits
        else:
            self._set.pop(key, None)
        self._newest = row.updated_at if self._newest is None else max(self._newest, row.updated_at)

    def _by_customer(self, scope_id: UUID) -> Limits:
        return self._set.get((scope_id, LimitSetter.CUSTOMER), NO_LIMITS)

    async def _refresh_forever(self) -> None:
        while True:
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError) as error:
                log.warning("limits.refresh_failed", reason=str(error)[:200])
            await asyncio.sleep(self._refresh_s)
