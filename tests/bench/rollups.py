"""Rollups: a customer's month view over 10 million usage records, read from sums and never from the records.

The rollups are summed from the generated records by what mends them in production, day by day, and each day is then
compared with its records. Before they are read, the sums of a day are shuffled: posting writes them in no order either,
and to read those of one customer from pages of many is what takes longest.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
from progress import say
from sqlalchemy.ext.asyncio import AsyncSession
from usage_history import ROWS, UsageHistory, customer_id, rank_drawn

from raymart_billing.connections import make_pool
from raymart_billing.rollups import (
    Dimension,
    Scope,
    days_of,
    drift_of,
    rebuild,
    usage_by_day,
    usage_summary,
)
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.collector import rare_collections
from support.figures import Figure

VIEWS = 200
"""Of each kind, of customers drawn by how much they use."""
VIEWS_OF_THE_LARGEST = 40
VIEW_MS_MAX = 50.0
MEMORY_MB_MAX = 256
"""Of the server's process that sums, the shared buffers of 64 MB included."""

_SHUFFLE = """
    create temporary table kept as select * from usage_day_part;
    truncate usage_day_part;
    insert into usage_day_part select * from kept order by day, random();
    drop table kept;
"""

View = Callable[[AsyncSession, Scope, date], Awaitable[object]]


async def by_day(session: AsyncSession, scope: Scope, month: date, by: Dimension | None) -> object:
    """Each day of the month."""
    days = days_of(month)
    return await usage_by_day(session, scope, since=days[0], until=days[-1] + timedelta(days=1), by=by)


async def at_a_glance(session: AsyncSession, scope: Scope, month: date) -> object:
    """The month's totals, and each project, key, model and provider."""
    summary = await usage_summary(session, scope, month=month)
    assert summary.totals.requests > 0, f"no usage of {scope}"
    return summary


KINDS: dict[str, View] = {"at a glance": at_a_glance, "by day": partial(by_day, by=None)} | {
    f"by day and {by.value}": partial(by_day, by=by)
    for by in (Dimension.API_KEY, Dimension.MODEL, Dimension.PROVIDER)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summing:
    """What summing anew took."""

    seconds: float
    longest_s: float
    """The day that posters would have waited for longest."""
    memory_mb: float
    """Highest resident size of the server's process."""
    differing: int
    """Rows that were wrong afterwards."""


async def summed(url: str, month: date) -> Summing:
    """Sum each day of `month` anew, and compare each with its records."""
    times, differing = [], 0
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        for day in days_of(month):
            begun = time.perf_counter()
            await rebuild(connection, day)
            times.append(time.perf_counter() - begun)
            drift = await drift_of(connection, day)
            differing += drift.rows
            say(f"{day}: summed in {times[-1]:.1f} s, {differing} rows differ so far")
        status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return Summing(
        seconds=sum(times),
        longest_s=max(times),
        memory_mb=int(peak[1]) / 1024 if peak else float("nan"),
        differing=differing,
    )


async def view_times_ms(url: str, month: date, ranks: Sequence[int]) -> dict[str, list[float]]:
    """Milliseconds of each kind of view, one for each of `ranks`, after a first that fills caches."""
    engine = make_engine(url, pool_size=1)
    times: dict[str, list[float]] = {}
    async with make_sessions(engine)() as session:
        for kind, view in KINDS.items():
            for number, rank in enumerate([ranks[0], *ranks]):
                begun = time.perf_counter()
                await view(session, Scope(organization_id=customer_id(rank)), month)
                if number:
                    times.setdefault(kind, []).append((time.perf_counter() - begun) * 1000)
    await engine.dispose()
    return times


def measure(history: UsageHistory) -> Sequence[Figure]:
    """Measure on the server of `history`."""
    url = history.url_with("usage_record")
    month = datetime.now(UTC).date()
    summing = asyncio.run(summed(url, month))
    with psycopg.connect(url, autocommit=True) as connection:
        say("shuffling the sums of each day")
        connection.execute(_SHUFFLE)
        connection.execute("vacuum analyze usage_hour, usage_day, usage_day_part")
        [(hours, days)] = connection.execute(
            "select (select count(*) from usage_hour), (select count(*) from usage_day)"
        ).fetchall()
        [(largest,)] = connection.execute(
            "select count(*) from usage_day_part where organization_id = %s", (customer_id(1),)
        ).fetchall()
    say("reading month views")
    # As in the API, which answers them: a whole collection takes 150 ms here.
    with rare_collections():
        drawn = asyncio.run(view_times_ms(url, month, [rank_drawn(random.random()) for _ in range(VIEWS)]))
        of_largest = asyncio.run(view_times_ms(url, month, [1] * VIEWS_OF_THE_LARGEST))
    return [
        *(_view_figure(f"month {kind} of one customer, of {VIEWS}", drawn[kind]) for kind in KINDS),
        *(
            _view_figure(f"month {kind} of the largest customer, {largest:,} sums", of_largest[kind])
            for kind in KINDS
        ),
        Figure(
            name=f"{ROWS:,} usages summed anew into {hours:,} hourly and {days:,} daily rows",
            measured=f"{summing.seconds:.0f} s, a day at most {summing.longest_s:.1f} s, {summing.differing} rows differ",
            target="0 differ",
            holds=summing.differing == 0,
        ),
        Figure(
            name="memory of the server's process that sums",
            measured=f"{summing.memory_mb:.0f} MB",
            target=f"<= {MEMORY_MB_MAX} MB",
            holds=summing.memory_mb <= MEMORY_MB_MAX,
        ),
    ]


def _view_figure(name: str, times: Sequence[float]) -> Figure:
    p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
    return Figure(
        name=name,
        measured=f"p95 {p95:.1f} ms, p50 {p50:.1f} ms",
        target=f"p95 <= {VIEW_MS_MAX:g} ms",
        holds=p95 <= VIEW_MS_MAX,
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """The value that `share` of `samples` are at most."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]
