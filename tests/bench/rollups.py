"""Rollups: a customer's month view over 10 million usage records, read from sums and never from the records.

The rollups are summed from the generated records by the same function that rebuilds them, and checked against them.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from usage_history import CUSTOMERS, ROWS, bench_server, fill, percentile

from raymart_billing.rollups import Scope, usage_summary
from raymart_marketplace.db.session import make_engine, make_sessions
from support.figures import Figure

VIEWS = 300
VIEW_MS_MAX = 50.0


async def view_times_ms(url: str) -> tuple[list[float], int]:
    """Milliseconds of each month view, of customers at random; and the requests that they showed."""
    engine = make_engine(url, pool_size=1)
    month = datetime.now(UTC).date()
    times, shown = [], 0
    async with make_sessions(engine)() as session:
        for number in range(-20, VIEWS):  # The first fill caches, as the first visitor of a day does.
            customer = UUID(f"00000000-0000-4000-8000-{random.randrange(CUSTOMERS):012x}")
            begun = time.perf_counter()
            summary = await usage_summary(session, Scope(organization_id=customer), month=month)
            if number >= 0:
                times.append((time.perf_counter() - begun) * 1000)
                shown += summary.totals.requests
    await engine.dispose()
    return times, shown


def measure() -> Sequence[Figure]:
    """Measure on a server of its own."""
    with bench_server() as server:
        fill(server.url, "usage_record")
        month = datetime.now(UTC).date()
        with psycopg.connect(server.url, autocommit=True) as connection:
            begun = time.perf_counter()
            connection.execute("select usage_rollup_rebuild(%s)", (month,))
            rebuilt_s = time.perf_counter() - begun
            connection.execute("vacuum analyze usage_hour, usage_day")
            [(days,)] = connection.execute("select count(*) from usage_day").fetchall()
            drift = dict(
                connection.execute("select kind, rows from usage_rollup_drift(%s)", (month,)).fetchall()
            )
        times, shown = asyncio.run(view_times_ms(server.url))
    p95 = percentile(times, 0.95)
    return [
        Figure(
            name=f"month view of one customer over {ROWS:,} usages, p95 of {VIEWS}",
            measured=f"{p95:.1f} ms (p50 {percentile(times, 0.5):.1f} ms; {shown // VIEWS:,} requests, {days // CUSTOMERS:,} sums a customer)",
            target="<= 50 ms",
            holds=p95 <= VIEW_MS_MAX and shown > 0,
        ),
        Figure(
            name=f"rollups rebuilt from {ROWS:,} usages, and compared",
            measured=f"{rebuilt_s:.0f} s, {sum(drift.values())} rows differ",
            target="0 differ",
            holds=not any(drift.values()),
        ),
    ]


if __name__ == "__main__":
    from support.figures import print_figures

    print_figures("rollups", measure())
