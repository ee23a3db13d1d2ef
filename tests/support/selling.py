"""A gateway of its own process under load: `python -m support.selling DATABASE_URL REDIS_URL SECONDS CLIENTS`.

Everything is real but the provider's machine. Prints "selling", and at its end one JSON line: which requests were
acknowledged, how many failed, and the longest time without an answer.
"""

import asyncio
import json
import sys
import time
from uuid import UUID

from raymart_billing.connections import make_pool
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.spill import make_spill
from raymart_core.ids import Prefix, parse
from raymart_marketplace.db.session import make_engine, make_sessions
from support.background import control_settings
from support.gateway_market import GatewayMarket


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.acknowledged: list[UUID] = []
        self.failed: list[str] = []
        self.longest_gap_s = 0.0
        self._answered_at = time.monotonic()

    def add(self, status: int, request_id: str, said: str) -> None:
        if status != 200:
            self.failed.append(f"{status} {said[:200]}")
            return
        now = time.monotonic()
        self.longest_gap_s = max(self.longest_gap_s, now - self._answered_at)
        self._answered_at = now
        self.acknowledged.append(parse(Prefix.REQUEST, request_id))


async def buy(market: GatewayMarket, tally: Tally, until: float) -> None:
    while time.monotonic() < until:
        answer = await market.chat()
        tally.add(answer.status_code, answer.headers.get("x-request-id", ""), answer.text)
        await asyncio.sleep(0.02)


async def main(database_url: str, redis_url: str, seconds: str, clients: str) -> None:
    engine = make_engine(database_url)
    spill = make_spill(control_settings(database_url, redis_url=redis_url))
    async with make_pool(database_url, name="gateway") as pool:
        market = GatewayMarket(make_sessions(engine), pool)
        market.usage_sink = LedgerUsageSink(
            pool,
            record_timeout_s=10.0,
            gateway_id=market.leases.gateway_id,
            spill=spill,
            settlements=market.leases.settlements,
        )
        async with market.stack:
            await market.open()
            await market.books.fund(10**12)
            await market.add_endpoint()
            tally = Tally()
            sys.stdout.write("selling\n")
            sys.stdout.flush()
            until = time.monotonic() + float(seconds)
            await asyncio.gather(*[buy(market, tally, until) for _ in range(int(clients))])
            await market.settle()
            balance = await market.balance()
    await spill.aclose()
    await engine.dispose()
    result = {
        "organization_id": str(market.books.organization_id),
        "acknowledged": [str(request_id) for request_id in tally.acknowledged],
        "failed": tally.failed,
        "longest_gap_s": tally.longest_gap_s,
        "balance": balance,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
