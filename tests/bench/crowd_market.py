"""A marketplace's `/link` as a process of its own, for crowds of nodes. Usage: crowd_market.py DATABASE_URL REDIS_URL PORT MODEL

Prints "ready" when it listens. `GET /crowd` says how many nodes are linked, and how many endpoints are in routing.
"""

import asyncio
import logging
import sys

import structlog
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.collector import rare_collections
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply.telemetry import TelemetryBook
from support.link_market import LinkMarket

HEARTBEAT_S = 10.0
LEASE_S = 40.0


async def main() -> None:
    database_url, redis_url, port, model = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    engine = make_engine(database_url)
    telemetry = TelemetryBook(make_redis(redis_url))
    market = LinkMarket(
        make_sessions(engine), heartbeat_s=HEARTBEAT_S, lease_s=LEASE_S, refresh_s=2.0, telemetry=telemetry
    )
    market.port = int(port)

    async def crowd(_: Request) -> JSONResponse:
        directory = market.directory
        counts = {
            "linked": len(directory._nodes),
            "endpoints": len(directory.live(model)),
            "telemetry": len(telemetry.newest),
        }
        return JSONResponse(counts)

    await telemetry.start()
    await market.start(Route("/crowd", crowd))
    print("ready", flush=True)
    with rare_collections():
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
