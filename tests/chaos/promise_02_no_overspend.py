"""No overspend: 500 requests at once against money for 100, over several gateway processes with leases.

Three races without HTTP (a balance; an organization's budget; one key's budget among others') over five processes, and
one through the real gateway's HTTP over four. Each time exactly 100 are served, what is available never falls below 0,
and nothing is held at the end.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from raymart_billing.connections import make_pool
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions
from support.figures import Figure
from support.gateway_market import GatewayMarket
from support.overspend import Race, race

REQUESTS, COVERED = 500, 100
PROCESSES, HTTP_PROCESSES = 5, 4
TOKENS, PRICE = 4, 5
TESTS = Path(__file__).parents[1]


def measure() -> Sequence[Figure]:
    """Run the races on a server of their own."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-02-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            upgrade(server.url)
            return asyncio.run(_races(server.url))
        finally:
            server.destroy()


async def _races(url: str) -> Sequence[Figure]:
    figures: list[Figure] = []
    for limited_by, keys in (("balance", 1), ("organization", 4), ("api_key", 1)):
        ended = await race(
            url, processes=PROCESSES, requests=REQUESTS, covered=COVERED, limited_by=limited_by, keys=keys
        )
        what = "balance" if limited_by == "balance" else f"budget of one {limited_by}"
        figures += _figures(f"{what}, {PROCESSES} processes", ended)
    figures += await _over_http(url)
    return figures


def _figures(name: str, ended: Race) -> list[Figure]:
    return [
        Figure(
            name=f"{name}: served of {REQUESTS}",
            measured=f"{ended.served}, refused {ended.refused.total()}",
            target=f"exactly {COVERED}",
            holds=ended.served == COVERED and ended.refused.total() == REQUESTS - COVERED,
        ),
        Figure(
            name=f"{name}: least available",
            measured=f"{ended.lowest} nano-USD",
            target="never below 0",
            holds=ended.lowest >= 0,
        ),
        Figure(
            name=f"{name}: held and open at the end",
            measured=f"{ended.pending} nano-USD, {ended.open_leases} leases",
            target="0, 0",
            holds=ended.pending == 0 and ended.open_leases == 0,
        ),
    ]


async def _over_http(url: str) -> Sequence[Figure]:
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(url, pool_size=4)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(url, size_max=4))
        market = GatewayMarket(make_sessions(engine), pool)
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.books.fund(COVERED * TOKENS * PRICE)
        bases = [await stack.enter_async_context(_gateway(url, market)) for _ in range(HTTP_PROCESSES)]
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                headers={"authorization": f"Bearer {market.key}"},
                timeout=110,
                limits=httpx.Limits(max_connections=None),
            )
        )
        answers = await asyncio.gather(
            *(
                client.post(
                    f"{bases[number % len(bases)]}/v1/chat/completions",
                    json=market.body(max_tokens=TOKENS, stream=number % 3 == 0),
                )
                for number in range(REQUESTS)
            )
        )
        await market.settle()
        await market.wait_for_no_hold()
        statuses = [answer.status_code for answer in answers]
        posted, pending = await market.balance()
    return [
        Figure(
            name=f"over HTTP, {HTTP_PROCESSES} processes: served of {REQUESTS}",
            measured=f"{statuses.count(200)}, 402 {statuses.count(402)}",
            target=f"exactly {COVERED}",
            holds=(statuses.count(200), statuses.count(402)) == (COVERED, REQUESTS - COVERED),
        ),
        Figure(
            name="over HTTP: balance and held at the end",
            measured=f"{posted}, {pending} nano-USD",
            target="0, 0",
            holds=(posted, pending) == (0, 0),
        ),
    ]


@contextlib.asynccontextmanager
async def _gateway(url: str, market: GatewayMarket) -> AsyncIterator[str]:
    arguments = (
        url, market.books.organization_id, market.books.provider_id, market.project_id, market.key_id, market.key,
        market.slug, PRICE,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "support" / "http_gateway_process.py"),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip().rstrip("/")
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
