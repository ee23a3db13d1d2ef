"""The demo's GraphQL client: queries over HTTP, subscriptions over graphql-transport-ws.

Written by hand on httpx and websockets, as any customer could.
Source: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from raymart_local.demo.errors import DemoFailed

REQUEST_TIMEOUT_S = 60.0
MESSAGE_TIMEOUT_S = 30.0

Json = Mapping[str, Any]


class GraphQLClient:
    """Speaks to one API as one caller; `bearer` is an access token or an API key."""

    def __init__(self, http: httpx.AsyncClient, *, base_url: str, bearer: str | None = None) -> None:
        self._http = http
        self._url = f"{base_url}/graphql"
        self._bearer = bearer

    def authenticated_as(self, bearer: str) -> "GraphQLClient":
        """The same API as another caller."""
        return GraphQLClient(self._http, base_url=self._url.removesuffix("/graphql"), bearer=bearer)

    async def run(self, document: str, **variables: object) -> Json:
        """The `data` of a query or mutation. Raises: DemoFailed, on top-level errors or userErrors of a payload."""
        headers = {"authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        answer = await self._http.post(
            self._url,
            json={"query": document, "variables": variables},
            headers=headers,
            timeout=REQUEST_TIMEOUT_S,
        )
        if answer.status_code != httpx.codes.OK:
            raise DemoFailed(f"GraphQL answered {answer.status_code}: {answer.text}")
        body = answer.json()
        if body.get("errors"):
            raise DemoFailed(f"GraphQL answered with errors: {json.dumps(body['errors'])}")
        data: Json = body["data"]
        for payload in data.values():
            _refuse_user_errors(payload)
        return data

    async def subscribe(self, document: str, **variables: object) -> AsyncGenerator[Json, None]:
        """The `data` of each event of a subscription, to its end. Raises: DemoFailed, as `run`."""
        url = self._url.replace("http", "ws", 1)
        subprotocol = Subprotocol("graphql-transport-ws")
        async with connect(url, subprotocols=[subprotocol], open_timeout=MESSAGE_TIMEOUT_S) as socket:
            # A browser cannot set headers on a WebSocket, so the protocol carries the key in its first message.
            payload = {"authorization": f"Bearer {self._bearer}"}
            await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
            request = {"id": "1", "type": "subscribe", "payload": {"query": document, "variables": variables}}
            while True:
                async with asyncio.timeout(MESSAGE_TIMEOUT_S):
                    message = json.loads(await socket.recv())
                match message["type"]:
                    case "connection_ack":
                        await socket.send(json.dumps(request))
                    case "ping":
                        await socket.send(json.dumps({"type": "pong"}))
                    case "next":
                        if message["payload"].get("errors"):
                            raise DemoFailed(f"the subscription failed: {message['payload']['errors']}")
                        data = message["payload"]["data"]
                        for event in data.values():
                            _refuse_user_errors(event)
                        yield data
                    case "complete":
                        return
                    case other:
                        raise DemoFailed(f"the subscription ended with {other!r}: {message.get('payload')}")


def _refuse_user_errors(payload: object) -> None:
    if isinstance(payload, dict) and payload.get("userErrors"):
        raise DemoFailed(f"GraphQL refused: {json.dumps(payload['userErrors'])}")
