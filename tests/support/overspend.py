"""Races of several gateway processes over the last of a balance or a budget, watched from outside."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

import psycopg

from raymart_billing.connections import Connection, make_pool
from raymart_core.ids import new_id
from support.books import PRICES, Books, fetch
from support.leases import LeaseDesk

TESTS = Path(__file__).parents[1]
PRICE = 10 * PRICES.token_prompt + 20 * PRICES.token_completion
"""What a request of `spending_process` costs, exactly; it is also what it holds."""
TIMEOUT_S = 120.0
PLENTY = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """How it ended. Amounts are nano-USD."""

    served: int
    refused: Counter[str]
    lowest: int
    """The least that was available at any time, of balance or budget; below 0 is an overspend."""
    spent: int
    pending: int
    open_leases: int


async def race(
    url: str,
    *,
    processes: int,
    requests: int,
    covered: int,
    limited_by: Literal["balance", "organization", "api_key"],
    keys: int = 1,
) -> Race:
    """`requests` at once over `processes` gateways, with money for exactly `covered` of them."""
    async with make_pool(url, size_max=4) as pool:
        books = Books(pool)
        desk = LeaseDesk(books)
        await books.fund(covered * PRICE if limited_by == "balance" else PLENTY)
        budget_id = None
        if limited_by != "balance":
            scope_id = books.organization_id if limited_by == "organization" else desk.api_key_id
            budget_id = await desk.limit(limited_by, scope_id, "monthly", covered * PRICE)
        api_keys = [desk.api_key_id, *(new_id() for _ in range(keys - 1))]
        gateways = [await _start(url, books, desk, api_keys, requests // processes) for _ in range(processes)]
        watch = _Watch(url, books.organization_id, budget_id)
        watching = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                results = await asyncio.gather(*(_finish(gateway) for gateway in gateways))
        finally:
            for gateway in gateways:
                if gateway.returncode is None:
                    gateway.kill()
            watch.is_over.set()
            await watching
        columns = await books.columns("customer_balance")
        spent, reserved = await desk.counted(budget_id) if budget_id else (columns.debits_posted, 0)
        open_leases = await books.value(
            "select count(*) from credit_lease where organization_id = %s and closed_at is null",
            books.organization_id,
        )
    return Race(
        served=sum(result["served"] for result in results),
        refused=sum((Counter(result["refused"]) for result in results), Counter()),
        lowest=watch.lowest,
        spent=spent,
        pending=columns.debits_pending + reserved,
        open_leases=open_leases,
    )


async def _start(
    url: str, books: Books, desk: LeaseDesk, api_keys: Sequence[UUID], requests: int
) -> asyncio.subprocess.Process:
    arguments = (
        url, books.organization_id, books.provider_id, desk.project_id, ",".join(map(str, api_keys)), requests, PRICE
    )  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "support" / "spending_process.py"),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


async def _finish(gateway: asyncio.subprocess.Process) -> dict:
    """Let it begin once it is ready; its result."""
    assert gateway.stdin is not None
    assert gateway.stdout is not None
    lines = []
    while line := await gateway.stdout.readline():
        lines.append(line)
        if line == b"ready\n":
            gateway.stdin.write(b"go\n")
            await gateway.stdin.drain()
    assert await gateway.wait() == 0
    return json.loads(lines[-1])


class _Watch:
    """Looks at what is available as often as it can."""

    def __init__(self, url: str, organization_id: UUID, budget_id: UUID | None) -> None:
        self._url = url
        self._organization_id = organization_id
        self._budget_id = budget_id
        self.lowest = PLENTY
        self.is_over = asyncio.Event()

    async def run(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while not self.is_over.is_set():
                self.lowest = min(self.lowest, await self._available(connection))
                await asyncio.sleep(0.002)
            self.lowest = min(self.lowest, await self._available(connection))

    async def _available(self, connection: Connection) -> int:
        [[available]] = await fetch(
            connection,
            "select min(credits_posted - debits_posted - debits_pending) from ledger_account"
            " where owner_id = %s and kind = 'customer_balance'",
            self._organization_id,
        )
        if self._budget_id is not None:
            [[headroom]] = await fetch(
                connection,
                "select min(b.limit_nano_usd - p.spent - p.reserved) from budget b"
                " join budget_period p on p.budget_id = b.id where b.id = %s",
                self._budget_id,
            )
            available = min(available, PLENTY if headroom is None else headroom)
        return available
