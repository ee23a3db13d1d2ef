"""Usage ingestion: group-committed COPY with dedupe against one INSERT and commit an event, at 10 million.

What writes the batches is what the gateway's sink calls, `BatchStatement.record`, with as many as it gathers at most.
An event is a finished request: its row, its attempt and its usage record. Both sides write the same rows into the same
tables, which hold 10 million, drop what is there already, and are durable when they say so (fsync on). What is compared
with is one statement an event, so that it pays for one round trip and one commit and for nothing else.

Rounds are interleaved and the ratio is the median of the rounds. The cost of a row is CPU of the server's process and of
ours, which survives a busy machine, in a database of 10 million and an empty one in turn.
"""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from progress import say
from usage_history import ROWS, UsageHistory, customer_id, rank_drawn

from raymart_billing.connections import Connection, make_pool
from raymart_billing.records import BatchStatement, copying
from raymart_billing.records.copy_format import CopiedTable
from raymart_core.ids import new_id
from raymart_core.ports import FinishedRequest
from support.books import finished
from support.figures import Figure

ROUNDS = 15
BATCH = 1_000
BATCHES = 4
"""Of one round."""
SINGLES = 150
"""Events one by one, of one round."""
COST_BATCHES = 60
WARM_BATCHES = 10
PROVIDERS = [new_id() for _ in range(50)]


def _insert(table: CopiedTable) -> str:
    """The INSERT of one row in place of a COPY, with the same columns."""
    holes = ", ".join(["%s"] * len(table.columns))
    return f"insert into {table.name} ({', '.join(table.columns)}) values ({holes}) on conflict do nothing"


INSERT = (
    f"with asked as ({_insert(copying.REQUEST)}), tried as ({_insert(copying.ATTEMPT)})"
    f" {_insert(copying.USAGE_RECORD)}"
)


def events(count: int) -> list[FinishedRequest]:
    """Finished requests of customers and providers as `usage_history` draws them."""
    return [
        finished(
            customer_id(rank_drawn(random.random())),
            random.choice(PROVIDERS),
            tokens_prompt=10,
            tokens_completion=20,
            delivered=True,
        )
        for _ in range(count)
    ]


async def one_by_one(connection: Connection, requests: Sequence[FinishedRequest]) -> float:
    """Events a second with a statement and a commit each."""
    begun = time.perf_counter()
    for request in requests:
        [attempt] = copying.attempt_rows(request)
        await connection.execute(
            INSERT, (*copying.request_row(request), *attempt, *next(iter(copying.usage_rows(request))))
        )
    return len(requests) / (time.perf_counter() - begun)


async def in_batches(connection: Connection, requests: Sequence[FinishedRequest]) -> float:
    """Events a second with a statement for each 1,000, and a tenth of the batch before once more in each."""
    begun = time.perf_counter()
    for start in range(0, len(requests), BATCH):
        repeats = requests[max(0, start - BATCH // 10) : start]
        batch = [*repeats, *requests[start : start + BATCH]]
        await BatchStatement().record(connection, batch, forget_checkpoints=False)
    return len(requests) / (time.perf_counter() - begun)


async def rates(url: str) -> list[tuple[float, float]]:
    """(events a second in batches, one by one) of each round."""
    found = []
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        await in_batches(connection, events(BATCH))
        await one_by_one(connection, events(20))
        for turn in range(ROUNDS):
            singles, batches = events(SINGLES), events(BATCH * BATCHES)
            slow = await one_by_one(connection, singles)
            fast = await in_batches(connection, batches)
            found.append((fast, slow))
            say(f"round {turn + 1} of {ROUNDS}: {fast:,.0f} against {slow:,.0f} events/s, {fast / slow:.0f}x")
    return found


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
                await BatchStatement().record(connection, batch, forget_checkpoints=False)
                if turn >= WARM_BATCHES:
                    found.append((cpu_s(server) + time.process_time() - begun) / BATCH * 1e6)
    return [statistics.median(found) for found in costs]


def measure(history: UsageHistory) -> Sequence[Figure]:
    """Measure on the server of `history`, in its database and an empty one beside it."""
    url = history.url_with("request", "attempt", "usage_record")
    found = asyncio.run(rates(url))
    say("cost of an event, full and empty in turn")
    empty, full = asyncio.run(costs_of_a_row([history.beside("nothing"), url]))
    ratios = sorted(fast / slow for fast, slow in found)
    fast, slow = (statistics.median(side) for side in zip(*found, strict=True))
    middle = statistics.median(ratios)
    return [
        Figure(
            name="batches of 1,000 with dedupe, against one INSERT and commit an event",
            measured=f"{middle:.0f}x ({ratios[0]:.0f} to {ratios[-1]:.0f}; {fast:,.0f} against {slow:,.0f} events/s)",
            target="must >= 40x, aim >= 100x",
            holds=middle >= 40,
        ),
        Figure(
            name=f"CPU of an event with {ROWS:,} there, against none",
            measured=f"{full / empty:.2f}x ({full:.1f} us against {empty:.1f} us)",
            target="0.80x to 1.20x",
            holds=0.8 <= full / empty <= 1.2,
        ),
    ]
