"""Raises workers with a small application, for the supervisor's tests: says its pid, streams at the pace that is asked to
somebody who is there, and hangs when that is asked.
"""

import asyncio
import os
import sys
import time

import uvicorn

from raymart_graphql.operator.nursery import raise_workers
from raymart_graphql.operator.worker import serve
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.supply.siblings import Meetings


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if "does-not-start" in sys.argv:
            await send({"type": "lifespan.startup.failed", "message": "as was asked"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/hang":
        time.sleep(3_600)
    pieces, pause_s = scope["query_string"].decode().split(",") if scope["query_string"] else (1, 0)
    leaving = asyncio.create_task(left(receive))
    for _ in range(int(pieces)):
        if leaving.done():
            break
        await send({"type": "http.response.body", "body": b"%d\n" % os.getpid(), "more_body": True})
        await asyncio.sleep(float(pause_s))
    leaving.cancel()
    await send({"type": "http.response.body", "body": b"end"})


async def left(receive):
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def work(listener_fd, control_fd):
    config = uvicorn.Config(
        application, http=HttpServerProtocol, log_config=None, lifespan="on", timeout_graceful_shutdown=10
    )
    serve(config, listener_fd=listener_fd, control_fd=control_fd, retirement_s=30, meetings=Meetings())


if __name__ == "__main__":
    raise_workers(int(sys.argv[-1]), work)
