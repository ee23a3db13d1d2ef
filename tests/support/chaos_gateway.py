"""A gateway process to be killed: everything real but the provider. Prints its port, key, model and customer as one line.

Usage: chaos_gateway.py DATABASE_URL REPLICA_ADDRESS[,REPLICA_ADDRESS...] SPILL_DIRECTORY [CAPACITY]

CAPACITY is how many slots each replica says that it has.

Its log goes to standard error; at SIGUSR1 it adds where each of its tasks stands.
"""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from raymart_billing.connections import make_pool
from raymart_billing.spill import Journal, Spill
from raymart_core.logs import configure_logs
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.limits import InferenceLimits
from support.gateway_market import GatewayMarket

LIMITS = InferenceLimits(
    request_deadline_s=60.0, first_token_timeout_s=10.0, stall_timeout_s=10.0, attempts_max=3, hold_ttl_s=90.0
)


class Address:
    """What `GatewayMarket.add_endpoint` needs of a replica."""

    def __init__(self, address: str) -> None:
        self.address = address


def show_tasks() -> None:
    """Write down where each task waits."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=6, file=sys.stderr)


async def main(url: str, replicas: str, directory: str, capacity: str = "1000") -> None:
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(url)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(url, name="gateway"))
        spill = Spill(journal=Journal(Path(directory), bytes_max=10**9), stream=None)
        stack.push_async_callback(spill.aclose)
        market = GatewayMarket(make_sessions(engine), pool, limits=LIMITS, spill=spill)
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.books.fund(10**12)
        for replica in replicas.split(","):
            await market.add_endpoint(Address(replica), capacity=int(capacity))
        about = {
            "url": str(market.client.base_url),
            "key": market.key,
            "model": market.slug,
            "organization": str(market.books.organization_id),
        }
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        loop.add_signal_handler(signal.SIGUSR1, show_tasks)
        await stopped.wait()


if __name__ == "__main__":
    configure_logs(process="gateway")
    asyncio.run(main(*sys.argv[1:]))
