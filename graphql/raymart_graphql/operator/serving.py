"""Run the API process: uvicorn, set for a gateway that streams."""

import logging
import socket

import uvicorn

from raymart_core.errors import Unavailable
from raymart_core.logs import configure_logs
from raymart_marketplace.gateway.http_guard import GuardedHttpProtocol
from raymart_marketplace.settings import ControlSettings

WEBSOCKET_BYTES_MAX = 128 * 1024
"""Largest WebSocket message: a link frame has 64 KiB and a header, a subscription's variables hold one conversation."""
BACKLOG = 2_048
KEEP_ALIVE_S = 65
"""Longer than a usual load balancer's minute, so that it closes idle connections first and never reuses a closed one."""
DRAIN_S = 20
"""What running requests get after SIGTERM, before their connections are cut."""


def serve_api(settings: ControlSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises: Unavailable when the port cannot be had or the app does not start."""
    configure_logs(process="api", level=settings.log_level)
    server = uvicorn.Server(_config(settings))
    listener = _listen(settings.host, settings.port)
    with listener:
        server.run(sockets=[listener])
    if not server.started:
        raise Unavailable("the API did not start; the lines above say why")


def _config(settings: ControlSettings) -> uvicorn.Config:
    """Uvicorn's configuration."""
    return uvicorn.Config(
        "raymart_graphql.app:create_app",
        factory=True,
        loop="uvloop",
        http=GuardedHttpProtocol,
        # The other implementation, "websockets", is deprecated by uvicorn.
        ws="websockets-sansio",
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
        timeout_graceful_shutdown=DRAIN_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises: Unavailable, naming the address; uvicorn itself would only end the process."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what uses it or choose another --port"
        ) from error
