"""Usage ingestion: group-committed COPY with dedupe against one INSERT and commit an event, and its cost at 10 million.

An event is a finished request: its row, its attempt and its usage record. Both sides write the same rows and drop what
is there already. Rounds are interleaved and the ratio is the median of the rounds; the cost of a row is CPU of the
server's process and of ours, which survives a busy machine.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from usage_history import ROWS, bench_server, fill

from raymart_billing.connections import Connection, make_pool
from raymart_billing.records import copy_requests, copying
from raymart_billing.records.copy_format import CopiedTable
from raymart_core.ids import new_id
from raymart_core.ports import FinishedRequest
from raymart_marketplace.db.migrate import upgrade
from support.books import finished
from support.figures import Figure

ROUNDS = 7
BATCH = 1_000
BATCHES = 4
"""Of one round."""
SINGLES = 150
"""Events one by one, of one round."""
COST_BATCHES = 40
WARM_BATCHES = 5


def _insert(table: CopiedTable) -> str:
    """The INSERT of one row in place of a COPY, with the same columns."""
    holes = ", ".join(["%s"] * len(table.columns))
    return f"insert into {table.name} ({', '.join(table.columns)}) values ({holes}) on conflict do nothing"


INSERT_REQUEST, INSERT_ATTEMPT, INSERT_USAGE = map(
    _insert, (copying.REQUEST, copying.ATTEMPT, copying.USAGE_RECORD)
)
PROVIDER = new_id()
CUSTOMERS = [new_id() for _ in range(100)]


def events(count: int) -> list[FinishedRequest]:
    return [
        finished(CUSTOMERS[n % 100], PROVIDER, tokens_prompt=10, tokens_completion=20, delivered=True)
        for n in range(count)
    ]


async def one_by_one(connection: Connection, requests: Sequence[FinishedRequest]) -> float:
    """Events a second with a transaction each."""
    begun = time.perf_counter()
    for request in requests:
        async with connection.transaction():
            await connection.execute(INSERT_REQUEST, copying.request_row(request))
            for row in copying.attempt_rows(request):
                await connection.execute(INSERT_ATTEMPT, row)
            await connection.execute(INSERT_USAGE, copying.usage_row(request))
    return len(requests) / (time.perf_counter() - begun)


async def in_batches(connection: Connection, requests: Sequence[FinishedRequest]) -> float:
    """Events a second with a COPY of each 1,000, a tenth of which are repeats of the batch before."""
    begun = time.perf_counter()
    for start in range(0, len(requests), BATCH):
        repeats = requests[max(0, start - BATCH // 10) : start]
        await copy_requests(connection, [*requests[start : start + BATCH], *repeats], may_exist=True)
    return len(requests) / (time.perf_counter() - begun)


async def ratios(url: str) -> tuple[list[float], list[float], list[float]]:
    """(batched, single, ratio) of each round."""
    batched, single = [], []
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        await in_batches(connection, events(BATCH))
        await one_by_one(connection, events(20))
        for _ in range(ROUNDS):
            single.append(await one_by_one(connection, events(SINGLES)))
            batched.append(await in_batches(connection, events(BATCH * BATCHES)))
    return batched, single, [fast / slow for fast, slow in zip(batched, single, strict=True)]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def costs_of_a_row(urls: Sequence[str]) -> list[float]:
    """CPU of the server's process and ours for one event of a batch, microseconds, in each of the databases in turn."""
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for url in urls:
            pool = await stack.enter_async_context(make_pool(url, size_max=1))
            connections.append(await stack.enter_async_context(pool.connection()))
        costs: list[list[float]] = [[] for _ in urls]
        for turn in range(WARM_BATCHES + COST_BATCHES):
            for connection, found in zip(connections, costs, strict=True):
                batch = events(BATCH)
                server = connection.info.backend_pid
                begun = cpu_s(server) + time.process_time()
                await copy_requests(connection, batch, may_exist=True)
                if turn >= WARM_BATCHES:
                    found.append((cpu_s(server) + time.process_time() - begun) / BATCH * 1e6)
    return [statistics.median(found) for found in costs]


def measure() -> Sequence[Figure]:
    """Measure on a server of its own: two databases in turn, one empty, one with 10 million requests in this month."""
    with bench_server() as server:
        batched, single, ratio = asyncio.run(ratios(server.url))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("truncate request, attempt, usage_record")
            connection.execute("create database nothing")
        empty_url = urlsplit(server.url)._replace(path="/nothing").geturl()
        upgrade(empty_url)
        fill(server.url, "request", "attempt", "usage_record")
        empty, full = asyncio.run(costs_of_a_row([empty_url, server.url]))
    middle = statistics.median(ratio)
    return [
        Figure(
            name="COPY of 1,000 with dedupe, against one INSERT and commit an event",
            measured=f"{middle:.0f}x ({statistics.median(batched):,.0f} against {statistics.median(single):,.0f} events/s)",
            target="must >= 40x, aim >= 100x",
            holds=middle >= 40,
        ),
        Figure(
            name=f"CPU of an event with {ROWS:,} there, against none",
            measured=f"{full / empty:.2f}x ({full:.1f} us against {empty:.1f} us)",
            target="<= 1.20x",
            holds=full / empty <= 1.2,
        ),
    ]


if __name__ == "__main__":
    from support.figures import print_figures

    print_figures("ingestion", measure())
