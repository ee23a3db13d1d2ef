"""Where a connection becomes a WebSocket, which is uvicorn's to serve."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from raymart_marketplace.gateway.http_server.request_head import Headers


def asks_for_websocket(headers: Headers, config: Config) -> bool:
    """Whether this and nothing else is asked for, of a server that has them."""
    wanted = [value.lower() for name, value in headers if name == b"upgrade"]
    return wanted == [b"websocket"] and config.ws_protocol_class is not None


def hand_over(
    transport: asyncio.Transport,
    *,
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    head: bytes,
    rest: bytes,
) -> None:
    """Give the connection away; who takes it reads `head` once more, then `rest`, which came behind it."""
    protocol: Any = config.ws_protocol_class(  # type: ignore[call-arg, misc]  # as uvicorn calls it
        config=config, server_state=server_state, app_state=app_state
    )
    protocol.connection_made(transport)
    protocol.data_received(head)
    if rest:
        protocol.data_received(rest)
    transport.set_protocol(protocol)
