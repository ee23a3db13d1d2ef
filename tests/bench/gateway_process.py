"""A gateway of its parts alone, for benches that swap one: everything real but the providers.

Prints its port, key and model as one JSON line. The API as it is served is `api_process.py`.

Usage: gateway_process.py DATABASE_URL REPLICA_PORT ENDPOINTS ledger|memory
"""

import asyncio
import contextlib
import json
import sys

import uvicorn
from starlette.applications import Starlette

from raymart_billing.connections import make_pool
from raymart_core.ports import Prices
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.collector import rare_collections
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.gateway.routes import gateway_routes
from support.gateway_market import LIMITS, GatewayMarket


class Address:
    """What `GatewayMarket.add_endpoint` needs of a replica."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"


class MemoryHolds:
    """Holds nothing: shows what the ledger's hold costs by leaving it out."""

    async def hold(self, **_: object) -> None:
        pass

    async def release(self, **_: object) -> None:
        pass


class MemoryRecords:
    """Records nothing."""

    def watch(self, running: object) -> None:
        pass

    async def record(self, request: object) -> None:
        pass


async def main() -> None:
    database_url, replica_port, endpoints, money = sys.argv[1:]
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(database_url)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(database_url, name="gateway"))
        market = GatewayMarket(make_sessions(engine), pool, limits=LIMITS)
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.books.fund(10**15)
        for number in range(int(endpoints)):
            prices = Prices(token_prompt=2 + number, token_completion=5 + number)
            # Known to be quick, as any endpoint is after its first answer.
            await market.add_endpoint(Address(int(replica_port)), prices=prices, first_token_ms=5.0)
        inference = market.inference
        if money == "memory":
            inference = market.make_inference(hold_gate=MemoryHolds(), usage_sink=MemoryRecords())
        routes = gateway_routes(
            inference=inference,
            authenticator=market.authenticator,
            directory=market.directory,
            models=market.models,
            body_bytes_max=2_000_000,
        )
        config = uvicorn.Config(
            Starlette(routes=list(routes)),
            port=0,
            loop="uvloop",
            http=HttpServerProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"port": port, "key": market.key, "model": market.slug}), flush=True)
        with rare_collections(), server.capture_signals():
            await server.main_loop()
        await server.shutdown()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
