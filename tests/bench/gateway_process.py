"""The measured gateway: everything real but the providers. Prints its port, key and model as one JSON line.

Usage: gateway_process.py DATABASE_URL REPLICA_PORT ENDPOINTS bare|fastapi|static ledger|memory
"""

import asyncio
import contextlib
import json
import sys

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from raymart_billing.connections import make_pool
from raymart_core.ports import Prices
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.collector import rare_collections
from raymart_marketplace.gateway.http_guard import GuardedHttpProtocol
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


async def static(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers a constant: what the server itself costs."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"400")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 400})


async def main() -> None:
    database_url, replica_port, endpoints, framework, money = sys.argv[1:]
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
            await market.add_endpoint(Address(int(replica_port)), prices=prices)
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
        app = (
            FastAPI(routes=list(routes), openapi_url=None)
            if framework == "fastapi"
            else Starlette(routes=list(routes))
        )
        config = uvicorn.Config(
            app,
            port=0,
            loop="uvloop",
            http=GuardedHttpProtocol,
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
