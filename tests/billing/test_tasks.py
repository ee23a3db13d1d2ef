"""The sweep: idempotent, in the right order, and at peace with an outage."""

import asyncio

from raymart_billing.records.copying import copy_requests
from raymart_billing.tasks import sweep_once


class TestSweepOnce:
    async def test_usage_is_captured_before_its_hold_expires(self, database_url, pool, books):
        """Both are due. Expiry first would give the hold back, and the balance may be gone by then."""
        request = books.finished()
        await books.fund(120)
        await books.hold(request.id, 120, "1 microsecond")
        async with pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)

        await sweep_once(database_url)
        assert await books.states_of(request.id) == [
            ("usage_hold", "pending", 120),
            ("usage_charge", "posted", 120),
            ("usage_earning", "posted", 108),
            ("usage_fee", "posted", 12),
        ]

    async def test_six_at_once_do_everything_once(self, database_url, pool, books):
        requests = [books.finished() for _ in range(100)]
        await books.fund(100_000)
        for request in requests[:50]:
            await books.hold(request.id, 500, "1 microsecond")
        async with pool.connection() as connection:
            await copy_requests(connection, requests[25:], may_exist=False)

        await asyncio.gather(*[sweep_once(database_url) for _ in range(6)])
        assert await books.columns("customer_balance") == (75 * 120, 100_000, 0, 0)

    async def test_a_database_that_is_away_ends_the_sweep_quietly(self):
        await sweep_once("postgresql://raymart@127.0.0.1:1/raymart")
