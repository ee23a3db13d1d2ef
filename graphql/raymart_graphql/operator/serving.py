"""Run the API: uvicorn, set for a gateway that streams, in this process or in several."""

import logging
import math
import socket
from collections.abc import Callable

import raymart_graphql.without_extras  # noqa: F401 - first, see there
from raymart_core.errors import Unavailable
from raymart_core.logs import configure_logs
from raymart_graphql.operator.supervisor import become_supervisor
from raymart_graphql.operator.workers import BACKLOG, listen_together
from raymart_graphql.without_extras import uvicorn
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.supply.link.websocket import LinkWebSocketProtocol

WEBSOCKET_BYTES_MAX = 128 * 1024
"""Largest WebSocket message: a link frame has 64 KiB and a header, a subscription's variables hold one conversation."""
KEEP_ALIVE_S = 65
"""Longer than a usual load balancer's minute, so that it closes idle connections first and never reuses a closed one."""
_APP = "raymart_graphql.app:create_app"


def serve_api(settings: ControlSettings) -> None:
    """Serve until SIGTERM or SIGINT; with several workers, as their supervisor, this does not return.

    Raises: Unavailable when the port cannot be had or the app does not start.
    """
    configure_logs(process="api", level=settings.log_level)
    if settings.workers > 1:
        listeners = _listen(settings, count=settings.workers)
        become_supervisor(
            listeners,
            drain_s=settings.drain_s,
            patience_s=settings.worker_patience_s,
            log_level=settings.log_level,
        )
    server = uvicorn.Server(api_config(settings))
    (listener,) = _listen(settings, count=1)
    with listener:
        server.run(sockets=[listener])
    if not server.started:
        raise Unavailable("the API did not start; the lines above say why")


def api_config(settings: ControlSettings, *, app: str | Callable[[], object] = _APP) -> uvicorn.Config:
    """Uvicorn's configuration of an API process; `app` makes the application, or names what does."""
    return uvicorn.Config(
        app,
        factory=True,
        loop="uvloop",
        http=HttpServerProtocol,
        ws=LinkWebSocketProtocol,
        ws_max_size=WEBSOCKET_BYTES_MAX,
        ws_per_message_deflate=False,  # Tokens are small and links are many: compression buys latency and memory.
        lifespan="on",
        log_config=None,
        # At DEBUG uvicorn would show WebSocket frames: prompts, completions and access tokens.
        log_level=max(logging.INFO, logging.getLevelNamesMapping()[settings.log_level.upper()]),
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


def _listen(settings: ControlSettings, *, count: int) -> list[socket.socket]:
    """Listening sockets. Raises: Unavailable, naming the address; uvicorn itself would only end the process."""
    try:
        return listen_together(settings.host, settings.port, count=count)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); stop what uses it or choose another"
            " --port"
        ) from error
