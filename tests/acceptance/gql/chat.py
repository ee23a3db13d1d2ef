"""Drive a running stack with the Python `gql` client: balance over HTTP, a subscription over graphql-transport-ws.

Usage: chat.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import asyncio
from decimal import Decimal

from demo import ANSWER, QUESTION, Stack, stack
from demo import CHAT as MODEL
from gql import Client, gql
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

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


async def check_viewer(known: Stack) -> None:
    headers = {"Authorization": f"Bearer {known.token}"}
    transport = HTTPXAsyncTransport(url=known.origin + "/graphql", headers=headers)
    async with Client(transport=transport, fetch_schema_from_transport=False) as session:
        answer = await session.execute(VIEWER)
    assert answer["viewer"]["user"]["email"] == "customer@raymart.test"


async def check_subscription(known: Stack) -> None:
    url = known.origin.replace("http", "ws", 1) + "/graphql"
    transport = WebsocketsTransport(
        url=url,
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        init_payload={"Authorization": f"Bearer {known.token}"},
    )
    request = {
        "model": MODEL,
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


async def main() -> None:
    known = stack()
    await check_viewer(known)
    await check_subscription(known)
    print("a query over HTTP, a chat over graphql-transport-ws")


if __name__ == "__main__":
    asyncio.run(main())
