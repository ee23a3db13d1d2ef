"""A gateway process with HTTP for a market that somebody else has seeded: its own replica, leases and sink.

Usage (PYTHONPATH: tests): http_gateway_process.py URL ORGANIZATION PROVIDER PROJECT KEY_ID KEY SLUG PRICE
Prints its base URL, serves until its standard input ends, and gives its leases back.
"""

import asyncio
import contextlib
import dataclasses
import sys
from uuid import UUID

from raymart_billing.connections import make_pool
from raymart_core.ports import Prices
from raymart_marketplace.db.session import make_engine, make_sessions
from support.gateway_market import LIMITS, GatewayMarket

PATIENT = dataclasses.replace(
    LIMITS, request_deadline_s=100, first_token_timeout_s=90, stall_timeout_s=90, hold_ttl_s=120
)
"""What is shown is a count, not the speed of a busy machine."""


class KnownMarket(GatewayMarket):
    """A market whose customer exists."""

    async def _seed(self) -> None:
        """Nothing: the parent did."""


async def main() -> None:
    """Serve one gateway of a known market."""
    url, organization, provider, project, key_id, key, slug, price = sys.argv[1:]
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(url, pool_size=4)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(url, size_max=8))
        market = KnownMarket(make_sessions(engine), pool, limits=PATIENT)
        market.books.organization_id, market.books.provider_id = UUID(organization), UUID(provider)
        market.project_id, market.key_id, market.key, market.slug = UUID(project), UUID(key_id), key, slug
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=int(price)))
        sys.stdout.write(f"{market.client.base_url}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
