"""graphql-transport-ws, with messages checked before the library takes their shape for granted."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import cast

import structlog
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message

from raymart_core.errors import InvalidRequest
from raymart_graphql.body import request_data
from raymart_graphql.context import Client
from raymart_graphql.streaming import SEND_TIMEOUT_S

log = structlog.get_logger()


TRY_AGAIN_LATER = 1013
"""Close code for a client that does not read; those of graphql-ws connect again after it."""
CLOSE_TIMEOUT_S = 1.0


class PatientSocket(ASGIWebSocketAdapter):
    """Sends with a time limit: back-pressure of a client that does not read must not hold an engine for ever."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send one message. Raises: WebSocketDisconnected when the client has left or does not read."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await super().send_json(message)
        except TimeoutError:
            log.info("socket.client_stalled", timeout_s=SEND_TIMEOUT_S)
            with contextlib.suppress(TimeoutError, WebSocketDisconnected):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.close(code=TRY_AGAIN_LATER, reason="messages were not read in time")
            raise WebSocketDisconnected from None


class TransportWs(BaseGraphQLTransportWSHandler[Client, None]):
    """One WebSocket. A malformed message closes it with 4400, as the protocol says."""

    async def handle_message(self, message: object) -> None:
        """Refuse what is no message, then go on as the library does."""
        problem = _problem(message)
        if problem is None:
            await super().handle_message(cast("Message", message))
        else:
            await self.handle_invalid_message(problem)


def _problem(message: object) -> str | None:
    """What is wrong with a message's shape; the library sees to its type and order."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "a message is an object with a type"
    if message["type"] not in {"subscribe", "complete"}:
        return None
    if not isinstance(message.get("id"), str) or not message["id"]:
        return "a message of this type has an id, a string"
    if message["type"] == "complete":
        return None
    try:
        asked = request_data(message.get("payload"))
    except InvalidRequest as error:
        # A close reason holds 123 bytes.
        return error.message.encode()[:120].decode(errors="ignore")
    return None if asked.query else "over a WebSocket a document is sent whole"
