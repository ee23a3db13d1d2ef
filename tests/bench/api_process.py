"""The measured API: what `raymart serve-api` runs, with its market in routing. Prints its port when it serves.

All of it is as in production but the links: machines are put into the directory here, and their replicas are reached
directly, as those of a house pool are. Without arguments the same server runs an application that answers a constant.
Usage: api_process.py [REPLICA_PORT MARKET], settings in the environment.
"""

import contextlib
import sys
from collections.abc import AsyncIterator

from api_market import Market, bring_on_line
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from raymart_core.logs import configure_logs
from raymart_graphql.app import create_app
from raymart_graphql.operator.serving import api_config
from raymart_graphql.operator.workers import listen_together
from raymart_graphql.without_extras import uvicorn
from raymart_marketplace.settings import ControlSettings


def main() -> None:
    settings = ControlSettings()  # type: ignore[call-arg]  # the values come from the environment
    configure_logs(process="api", level=settings.log_level)
    (listener,) = listen_together("127.0.0.1", 0, count=1)
    port = listener.getsockname()[1]
    config = api_config(settings)
    config.app, config.factory = measured_app(settings, port, sys.argv[1:]), False
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def measured_app(settings: ControlSettings, port: int, arguments: list[str]) -> ASGIApp:
    """What is served; `arguments` as of the process. Says `port` when it is ready: who connects before the server accepts waits in the backlog."""
    if not arguments:
        return _Constant(port)
    replica_port, market = arguments
    app = create_app(settings)
    runs = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(running: Starlette) -> AsyncIterator[None]:
        async with runs(running):
            await bring_on_line(app.state.services, Market.parse(market), address=f"127.0.0.1:{replica_port}")
            print(port, flush=True)
            yield

    app.router.lifespan_context = lifespan
    return app


class _Constant:
    """Reads the body and answers 400 bytes."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            print(self._port, flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"400")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 400})


if __name__ == "__main__":
    main()
