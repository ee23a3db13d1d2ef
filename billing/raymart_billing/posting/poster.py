"""A gateway's own poster: what it has recorded is posted within a moment; what it misses, the sweeper finds."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, KeptConnection, Pauses, Pool
from raymart_billing.holds import Settlements
from raymart_billing.posting.gathering import Gathering
from raymart_billing.posting.post import USAGES_PER_POST_MAX, post_requests
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

PACE_S = 0.1
"""The least time between the beginnings of batches that several share. Nobody waits for the ledger but who is so short of
money that his lease must come back first."""
POST_TIMEOUT_S = 10.0
TRIES_MAX = 5
"""Tries before a batch is left to the sweeper."""


class _Used(NamedTuple):
    """A recorded usage."""

    request_id: UUID
    lease_id: UUID | None
    amount: int
    """What it costs the customer, nano-USD."""


class UsagePoster:
    """Posts what `committed` is told of; `run` is its task. `settlements` hears what was taken from each lease."""

    def __init__(self, pool: Pool, settlements: Settlements, *, usages_max: int) -> None:
        self._kept = KeptConnection(pool)
        self._settlements = settlements
        self._usages: Gathering[_Used] = Gathering(
            items_max=usages_max, batch_max=USAGES_PER_POST_MAX, pace_s=PACE_S
        )

    def __len__(self) -> int:
        return len(self._usages)

    def committed(self, requests: Sequence[FinishedRequest]) -> None:
        """`requests` are in PostgreSQL: what they used can be posted."""
        for number, request in enumerate(requests):
            usage = request.usage
            if usage is None:
                continue
            if not self._usages.put(_Used(request.id, request.lease_id, usage.customer_amount.amount)):
                # The sweeper finds usage by `posted_at`, and each lease learns of it at its next renewal.
                log.warning("usage.posts_left_to_sweeper", requests=len(requests) - number)
                return

    def close(self) -> None:
        """Let `run` post what is at hand, and end."""
        self._usages.close()

    async def run(self) -> None:
        """Post until closed and empty."""
        try:
            while batch := await self._usages.batch():
                await self._post(batch)
                if not self._usages:
                    await self._kept.give_back()
        finally:
            await self._kept.give_back()

    async def _post(self, batch: Sequence[_Used]) -> None:
        pauses = Pauses()
        for _ in range(TRIES_MAX):
            try:
                async with asyncio.timeout(POST_TIMEOUT_S), self._kept.use(ACQUIRE_TIMEOUT_S) as connection:
                    await post_requests(connection, [used.request_id for used in batch])
                self._tell_leases(batch)
                return
            except OUTAGE as error:
                log.warning("usage.post_retried", requests=len(batch), error=type(error).__name__)
                await pauses.rest()
            except Exception:
                # The next batch must be posted; to this one the sweeper comes back.
                log.exception("usage.post_failed", requests=len(batch))
                return
        log.warning("usage.posts_left_to_sweeper", requests=len(batch))

    def _tell_leases(self, batch: Sequence[_Used]) -> None:
        by_lease: dict[UUID, int] = {}
        for used in batch:
            if used.lease_id is not None:
                by_lease[used.lease_id] = by_lease.get(used.lease_id, 0) + used.amount
        for lease_id, amount in by_lease.items():
            self._settlements.posted(lease_id, amount)
