"""A graphql-transport-ws client, plain enough to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import websockets

from support.api_server import Api, Person


class Socket:
    """One connection."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: object) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            text = await self.connection.recv()
        assert isinstance(text, str)
        return msgspec.json.decode(text)

    async def subscribe(self, query: str, *, id_: str = "1", **variables: Any) -> None:
        await self.send({"id": id_, "type": "subscribe", "payload": {"query": query, "variables": variables}})

    async def chunks(self) -> list[dict[str, Any]]:
        """Everything up to `complete`."""
        found = []
        while (message := await self.receive())["type"] != "complete":
            assert message["type"] == "next", message
            assert "errors" not in message["payload"], message
            found.append(message["payload"]["data"]["chatCompletion"])
        return found

    async def closed(self) -> int:
        async with asyncio.timeout(30):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code


@asynccontextmanager
async def opened(api: Api, **options: Any) -> AsyncIterator[Socket]:
    options = {"subprotocols": ["graphql-transport-ws"]} | options
    async with websockets.connect(api.ws_url, **options) as connection:
        yield Socket(connection)


@asynccontextmanager
async def connected(api: Api, person: Person | str, **options: Any) -> AsyncIterator[Socket]:
    token = person.token if isinstance(person, Person) else person
    async with opened(api, **options) as ws:
        await ws.send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
        assert (await ws.receive())["type"] == "connection_ack"
        yield ws
