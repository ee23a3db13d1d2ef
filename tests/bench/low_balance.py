"""Low-balance alerts: one check over 100,000 customers, which the worker runs every minute."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from raymart_billing.alerts import check_low_balances
from raymart_core.money import Money
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions
from support.figures import Figure

CUSTOMERS = 100_000
ROUNDS = 9
EVERY_S = 60.0
SHARE_MAX = 0.01
"""Of one core."""
FIVE_DOLLARS = Money(5 * 10**9)


def measure() -> Sequence[Figure]:
    """Fill a server of its own, cross 1,000 thresholds once, then measure the check that finds nothing new."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-low-balance-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            upgrade(server.url)
            _fill(server.url)
            first_s, raised, seconds = asyncio.run(_checks(server.url))
        finally:
            server.destroy()
    median_s = statistics.median(seconds)
    return [
        Figure(
            name="check that finds nothing new",
            measured=f"{median_s * 1000:.0f} ms (median of {ROUNDS}; {100 * median_s / EVERY_S:.2f} % of the minute)",
            target=f"<= {100 * SHARE_MAX:g} % of the minute",
            holds=median_s <= SHARE_MAX * EVERY_S,
        ),
        Figure(
            name="check that raises 1,000 alerts",
            measured=f"{first_s:.2f} s, {raised} raised",
            target="1,000 raised",
            holds=raised == 1_000,
        ),
    ]


def _fill(url: str) -> None:
    """One of a hundred customers has less than five dollars."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into organization (id, slug, name, kind)"
            " select gen_random_uuid(), 'c' || n, 'Customer ' || n, 'customer' from generate_series(1, %s) n",
            (CUSTOMERS,),
        )
        connection.execute(
            "insert into ledger_account (kind, owner_id, asset, may_overdraw)"
            " select wanted, id, 'usd', false from organization, unnest(array['customer_balance', 'usage_clearing']) wanted"
        )
        found = connection.execute(
            "select id from ledger_account where kind = 'customer_balance' order by id"
        ).fetchall()
        row = connection.execute("select id from ledger_account where kind = 'promotional_credit'").fetchone()
        assert row is not None
        for first in range(0, CUSTOMERS, 1_000):
            batch = [account for (account,) in found[first : first + 1_000]]
            connection.execute(
                "select ledger_post_batch(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])",
                (
                    [f"grant:{account}" for account in batch],
                    [row[0]] * len(batch),
                    batch,
                    [10**9 if place % 100 == 0 else 20 * 10**9 for place in range(len(batch))],
                    ["credit_grant"] * len(batch),
                ),
            )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


async def _checks(url: str) -> tuple[float, int, list[float]]:
    engine = make_engine(url, pool_size=1)
    sessions = make_sessions(engine)
    try:
        begun = time.perf_counter()
        raised = await check_low_balances(sessions, threshold=FIVE_DOLLARS)
        first_s = time.perf_counter() - begun
        seconds = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            assert await check_low_balances(sessions, threshold=FIVE_DOLLARS) == 0
            seconds.append(time.perf_counter() - begun)
        return first_s, raised, seconds
    finally:
        await engine.dispose()
