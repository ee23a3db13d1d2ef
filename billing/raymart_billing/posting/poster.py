"""A gateway's own poster: what it has recorded is posted within a moment; what it misses, the sweeper finds."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from raymart_billing.connections import ACQUIRE_TIMEOUT_S, OUTAGE, Pauses, Pool
from raymart_billing.holds import Settlements
from raymart_billing.posting.gathering import Gathering
from raymart_billing.posting.post import USAGES_PER_POST_MAX, post_requests
from raymart_core.ports import FinishedRequest

log = structlog.get_logger()

PACE_S = 0.1
"""The least time between the beginnings of batches that several share. Nobody waits for the ledger but who is so short of
money that his lease must come back first."""
POST_TIMEOUT_S = 10.0
BATCHES_PER_POST_MAX = 100
TRIES_MAX = 5
"""Tries before a batch is left to the sweeper."""


@dataclass(slots=True)
class _Committed:
    """The usages of one batch of records."""

    ids: list[UUID]
    """Of the requests."""
    by_lease: dict[UUID, int]
    """What they cost the customers, nano-USD, by the lease that pays."""
    customers: set[UUID]
    """Organizations that they are billed to."""


class UsagePoster:
    """Posts what `committed` is told of; `run` is its task. `settlements` hears what was taken from each lease."""

    def __init__(
        self,
        pool: Pool,
        settlements: Settlements,
        *,
        on_posted: Callable[[Collection[UUID]], None],
        batches_max: int,
    ) -> None:
        self._pool = pool
        self._settlements = settlements
        self._on_posted = on_posted
        self._batches: Gathering[_Committed] = Gathering(
            items_max=batches_max,
            batch_max=BATCHES_PER_POST_MAX,
            pace_s=PACE_S,
            records_in=lambda batch: len(batch.ids),
        )

    def __len__(self) -> int:
        """Batches of usages that wait."""
        return len(self._batches)

    def committed(self, requests: Sequence[FinishedRequest]) -> None:
        """`requests` are in PostgreSQL: what they used can be posted."""
        ids: list[UUID] = []
        by_lease: dict[UUID, int] = {}
        customers: set[UUID] = set()
        for request in requests:
            if request.usage is None:
                continue
            ids.append(request.id)
            customers.add(request.organization_id)
            lease_id = request.lease_id
            if lease_id is not None:
                by_lease[lease_id] = by_lease.get(lease_id, 0) + request.charge.amount
        if ids and not self._batches.put(_Committed(ids, by_lease, customers)):
            # The sweeper finds usage by `posted_at`, and each lease learns of it at its next renewal.
            log.warning("usage.posts_left_to_sweeper", requests=len(ids))

    def close(self) -> None:
        """Let `run` post what is at hand, and end."""
        self._batches.close()

    async def run(self) -> None:
        """Post until closed and empty."""
        while batches := await self._batches.batch():
            for together in _joined(batches):
                await self._post(together)

    async def _post(self, usages: _Committed) -> None:
        pauses = Pauses()
        for _ in range(TRIES_MAX):
            try:
                async with (
                    asyncio.timeout(POST_TIMEOUT_S),
                    self._pool.connection(ACQUIRE_TIMEOUT_S) as connection,
                ):
                    await post_requests(connection, usages.ids)
                for lease_id, amount in usages.by_lease.items():
                    self._settlements.posted(lease_id, amount)
                self._on_posted(usages.customers)
                return
            except OUTAGE as error:
                log.warning("usage.post_retried", requests=len(usages.ids), error=type(error).__name__)
                await pauses.rest()
            except Exception:
                # The next batch must be posted; to this one the sweeper comes back.
                log.exception("usage.post_failed", requests=len(usages.ids))
                return
        log.warning("usage.posts_left_to_sweeper", requests=len(usages.ids))


def _joined(batches: Sequence[_Committed]) -> Iterator[_Committed]:
    """The same usages in as few batches as may be posted, oldest first. None is too large by itself."""
    joined = _Committed([], {}, set())
    for batch in batches:
        if joined.ids and len(joined.ids) + len(batch.ids) > USAGES_PER_POST_MAX:
            yield joined
            joined = _Committed([], {}, set())
        joined.ids += batch.ids
        joined.customers |= batch.customers
        for lease_id, amount in batch.by_lease.items():
            joined.by_lease[lease_id] = joined.by_lease.get(lease_id, 0) + amount
    yield joined
