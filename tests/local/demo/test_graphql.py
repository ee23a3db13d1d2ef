"""The demo's GraphQL client against a small real server that says what it is told to say."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import GraphQLClient


@asynccontextmanager
async def peer(
    replies: Sequence[dict[str, Any]],
) -> AsyncGenerator[tuple[GraphQLClient, list[dict[str, Any]]], None]:
    """A graphql-transport-ws server: acknowledges, then answers the subscription with `replies`; and what it heard."""
    heard: list[dict[str, Any]] = []

    async def talk(socket: ServerConnection) -> None:
        heard.append(json.loads(await socket.recv()))
        await socket.send(json.dumps({"type": "connection_ack"}))
        heard.append(json.loads(await socket.recv()))
        for reply in replies:
            await socket.send(json.dumps(reply))
            if reply["type"] == "ping":
                heard.append(json.loads(await socket.recv()))
        await socket.wait_closed()

    async with (
        serve(talk, "127.0.0.1", 0, subprotocols=["graphql-transport-ws"]) as server,  # type: ignore[list-item]
        httpx.AsyncClient() as http,
    ):
        port = server.sockets[0].getsockname()[1]
        yield GraphQLClient(http, base_url=f"http://127.0.0.1:{port}", bearer="rm_live_x"), heard


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"type": "next", "id": "1", "payload": {"data": {"count": {"value": number, **more}}}}


class TestSubscribe:
    async def test_events_come_in_order_to_the_end(self):
        replies = [event(1), {"type": "ping"}, event(2), {"type": "complete", "id": "1"}]
        async with peer(replies) as (client, heard):
            got = [data["count"]["value"] async for data in client.subscribe("subscription { count }", a=1)]
        assert got == [1, 2]
        assert heard[0] == {"type": "connection_init", "payload": {"authorization": "Bearer rm_live_x"}}
        assert heard[1]["payload"] == {"query": "subscription { count }", "variables": {"a": 1}}
        assert heard[2] == {"type": "pong"}

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ({"type": "error", "id": "1", "payload": [{"message": "no"}]}, "ended with 'error'.*no"),
            ({"type": "next", "id": "1", "payload": {"errors": [{"message": "no"}]}}, "failed.*no"),
            (event(1, userErrors=[{"code": "INSUFFICIENT_FUNDS"}]), "refused.*INSUFFICIENT_FUNDS"),
        ],
    )
    async def test_failure_is_told(self, reply: dict[str, Any], message: str):
        async with peer([reply]) as (client, _):
            with pytest.raises(DemoFailed, match=message):
                [data async for data in client.subscribe("subscription { count }")]
