"""Raises workers with a marketplace as nodes see it, and as little of a gateway as shows where requests can go.

Usage: linked_worker_app.py DATABASE_URL SERVER_NAME CONTROL_FD
"""

import contextlib
import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from raymart_core.wire.link import LINK_PATH
from raymart_core.wire.replica import GENERATE_PATH
from raymart_graphql.operator.nursery import raise_workers
from raymart_graphql.operator.worker import serve
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.link import LinkEndpoint
from raymart_marketplace.supply.link.websocket import LinkWebSocketProtocol
from raymart_marketplace.supply.siblings import Meetings, Siblings

DATABASE_URL, SERVER_NAME = sys.argv[1:3]


def make_app(meetings):
    engine = make_engine(DATABASE_URL, pool_size=2)
    sessions = make_sessions(engine)
    directory = Directory(sessions, refresh_s=0.5)
    siblings = Siblings(directory, meetings)
    link = LinkEndpoint(
        sessions, directory, server_name=SERVER_NAME, heartbeat_s=0.2, lease_s=20, links=siblings
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        await directory.start()
        await siblings.start(moved=link.look_at_node)
        yield
        await siblings.stop()
        await directory.stop()
        await engine.dispose()

    async def state(request: Request) -> Response:
        """Who answers, and what it knows."""
        live = directory.live(request.query_params["model"])
        mine = [endpoint for endpoint in live if siblings.own_link(endpoint.node_id) is not None]
        return JSONResponse({"pid": os.getpid(), "live": len(live), "mine": len(mine)})

    async def generate(request: Request) -> Response:
        """The replica's answer as it comes; the body is the replica's."""
        live = directory.live(request.query_params["model"])
        lease = directory.acquire(live[0].id) if live else None
        if lease is None:
            return Response(status_code=503)
        answer = await lease.upstream.post(
            GENERATE_PATH, await request.body(), request_id="req_1", deadline_ms=60_000
        )

        async def pieces():
            with lease:
                try:
                    async for piece in answer.chunks():
                        yield piece
                finally:
                    await answer.aclose()

        return StreamingResponse(pieces(), status_code=answer.status, headers={"x-pid": str(os.getpid())})

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", state),
            Route("/generate", generate, methods=["POST"]),
            WebSocketRoute(LINK_PATH, link),
        ],
    )


def work(listener_fd, control_fd):
    meetings = Meetings()
    config = uvicorn.Config(
        lambda: make_app(meetings),
        factory=True,
        loop="uvloop",
        http=HttpServerProtocol,
        ws=LinkWebSocketProtocol,
        ws_per_message_deflate=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=10,
    )
    serve(config, listener_fd=listener_fd, control_fd=control_fd, retirement_s=30, meetings=meetings)


if __name__ == "__main__":
    raise_workers(int(sys.argv[-1]), work)
