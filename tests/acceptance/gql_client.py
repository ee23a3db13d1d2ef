"""Drive a running stack with the Python `gql` client: balance over HTTP, a subscription over graphql-transport-ws.

Usage: gql_client.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import asyncio
import json
import sys
from decimal import Decimal
from pathlib import Path

from gql import Client, gql
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."

VIEWER = gql("{ viewer { user { email } } }")
CHAT = gql(
    """
    subscription Chat($input: ChatCompletionInput!) {
      chatCompletion(input: $input) {
        requestId
        delta
        finishReason
        usage { tokensPrompt tokensCompletion }
        cost { amount currency }
        userErrors { code message }
      }
    }
    """
)


async def check_viewer(credentials: dict) -> None:
    headers = {"Authorization": f"Bearer {credentials['customer']['token']}"}
    transport = HTTPXAsyncTransport(url=credentials["base_url"] + "/graphql", headers=headers)
    async with Client(transport=transport, fetch_schema_from_transport=False) as session:
        answer = await session.execute(VIEWER)
    assert answer["viewer"]["user"]["email"] == credentials["customer"]["email"]


async def check_subscription(credentials: dict) -> None:
    url = credentials["base_url"].replace("http", "ws", 1) + "/graphql"
    transport = WebsocketsTransport(
        url=url,
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        init_payload={"Authorization": f"Bearer {credentials['customer']['token']}"},
    )
    request = {
        "model": "raymart/demo-chat",
        "messages": [{"role": "USER", "content": QUESTION}],
        "temperature": 0,
    }
    async with Client(transport=transport, fetch_schema_from_transport=False) as session:
        pieces = [
            answer["chatCompletion"]
            async for answer in session.subscribe(CHAT, variable_values={"input": request})
        ]
    text, last = "".join(piece["delta"] for piece in pieces), pieces[-1]
    assert text == ANSWER, text
    assert last["finishReason"] == "STOP"
    assert last["usage"]["tokensCompletion"] > 0
    assert Decimal(last["cost"]["amount"]) > 0
    assert not any(piece["userErrors"] for piece in pieces)
    print(f"  subscription: {len(pieces)} pieces, {text!r}, {last['usage']}, {last['cost']}")


async def main() -> None:
    credentials = json.loads(Path(sys.argv[1]).read_text())
    credentials["base_url"] = credentials["base_url"].rstrip("/")
    await check_viewer(credentials)
    await check_subscription(credentials)
    print("gql client: all claims hold")


if __name__ == "__main__":
    asyncio.run(main())
