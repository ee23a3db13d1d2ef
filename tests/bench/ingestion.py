"""Usage ingestion: group-committed COPY with dedupe against one INSERT and commit an event, and its cost at 10 million.

An event is a finished request: its row, its attempt and its usage record. Both sides write the same rows and drop what
is there already. Rounds are interleaved and the ratio is the median of the rounds; the cost of a row is CPU of the
server's process and of ours, which survives a busy machine.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from usage_history import ROWS, bench_server, fill

from raymart_billing.connections import Connection, make_pool
from raymart_billing.records import copy_requests, copying
from raymart_core.ids import new_id
from raymart_core.ports import FinishedRequest
from support.books import finished
from support.figures import Figure

ROUNDS = 7
BATCH = 1_000
BATCHES = 4
"""Of one round."""
SINGLES = 150
"""Events one by one, of one round."""
COST_BATCHES = 40


def _insert(copy: bytes) -> str:
    """The INSERT of one row in place of a COPY, with the same columns."""
    head, columns = copy.decode().split("(", 1)
    columns = columns.split(")")[0]
    holes = ", ".join(["%s"] * len(columns.split(",")))
    return f"{head.replace('copy', 'insert into')} ({columns}) values ({holes}) on conflict do nothing"


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


async def cost_of_a_row(url: str) -> float:
    """CPU of the server's process and ours for one event of a batch, microseconds."""
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        server = connection.info.backend_pid
        await in_batches(connection, events(5 * BATCH))
        costs = []
        for _ in range(COST_BATCHES):
            batch = events(BATCH)
            begun_server, begun_own = cpu_s(server), time.process_time()
            await copy_requests(connection, batch, may_exist=True)
            costs.append((cpu_s(server) - begun_server + time.process_time() - begun_own) / BATCH * 1e6)
    return statistics.median(costs)


def measure() -> Sequence[Figure]:
    """Measure on a server of its own: first empty, then with 10 million requests in this month's partitions."""
    with bench_server() as server:
        batched, single, ratio = asyncio.run(ratios(server.url))
        empty = asyncio.run(cost_of_a_row(server.url))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("truncate request, attempt, usage_record")
        fill(server.url, "request", "attempt", "usage_record")
        full = asyncio.run(cost_of_a_row(server.url))
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
