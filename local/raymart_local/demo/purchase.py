"""Buying one chat completion, by each of the ways that the API offers."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from raymart_core.money import Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import REQUEST_TIMEOUT_S, GraphQLClient

MODEL = "raymart/demo-chat"
TOKENS_MAX = 64

_COMPLETION = """
mutation($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) {
  userErrors { code message }
  completion { requestId text provider { slug } usage { tokensPrompt tokensCompletion } cost { amount } } } }
"""
_SUBSCRIPTION = """
subscription($input: ChatCompletionInput!) { chatCompletion(input: $input) {
  userErrors { code message }
  requestId delta provider { slug } usage { tokensPrompt tokensCompletion } cost { amount } } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What the customer saw of one request: its own count, to hold against the marketplace's."""

    request_id: str
    way: str
    text: str
    provider: str
    """Slug."""
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    """As the answer named it."""
    pieces: int | None
    """In how many parts a streamed text came; None for one that was not streamed."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """The customer with an API key. Every question is asked greedily, so that its answer is known."""

    http: httpx.AsyncClient
    base_url: str
    api_key: str
    graphql: GraphQLClient

    async def rest(self, question: str, *, only: Sequence[str] = ()) -> Purchase:
        """`POST /v1/chat/completions`, the answer in one piece."""
        answer = await self.http.post(
            f"{self.base_url}/v1/chat/completions",
            json=self._body(question, only),
            headers=self.headers,
            timeout=REQUEST_TIMEOUT_S,
        )
        if answer.status_code != httpx.codes.OK:
            raise DemoFailed(f"REST answered {answer.status_code}: {answer.text}")
        body = answer.json()
        text = body["choices"][0]["message"]["content"]
        return _from_rest("REST", text, body["usage"], answer.headers, pieces=None)

    async def rest_streamed(self, question: str, *, only: Sequence[str] = ()) -> Purchase:
        """The same as server-sent events, with `stream_options.include_usage`."""
        body = self._body(question, only) | {"stream": True, "stream_options": {"include_usage": True}}
        pieces: list[str] = []
        usage: dict[str, Any] | None = None
        async with self.http.stream(
            "POST",
            f"{self.base_url}/v1/chat/completions",
            json=body,
            headers=self.headers,
            timeout=REQUEST_TIMEOUT_S,
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise DemoFailed(f"REST answered {answer.status_code}: {(await answer.aread()).decode()}")
            async with aclosing(events_of(answer)) as events:
                async for event in events:
                    usage = event.get("usage") or usage
                    pieces += [
                        piece for choice in event["choices"] if (piece := choice["delta"].get("content"))
                    ]
        if usage is None:
            raise DemoFailed("the stream ended without usage")
        return _from_rest("REST stream", "".join(pieces), usage, answer.headers, pieces=len(pieces))

    async def graphql_mutation(self, question: str, *, only: Sequence[str] = ()) -> Purchase:
        """GraphQL's `createChatCompletion`."""
        data = await self.graphql.run(_COMPLETION, input=self._input(question, only))
        completion = data["createChatCompletion"]["completion"]
        return _from_graphql("GraphQL", completion["text"], completion, pieces=None)

    async def graphql_subscription(self, question: str, *, only: Sequence[str] = ()) -> Purchase:
        """GraphQL's subscription `chatCompletion`."""
        stream = self.graphql.subscribe(_SUBSCRIPTION, input=self._input(question, only))
        async with aclosing(stream) as events:
            chunks = [event["chatCompletion"] async for event in events]
        if not chunks or chunks[-1]["usage"] is None:
            raise DemoFailed("the subscription ended without usage")
        deltas = [chunk["delta"] for chunk in chunks if chunk["delta"]]
        return _from_graphql("GraphQL subscription", "".join(deltas), chunks[-1], pieces=len(deltas))

    @property
    def headers(self) -> dict[str, str]:
        """The key."""
        return {"authorization": f"Bearer {self.api_key}"}

    def _body(self, question: str, only: Sequence[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": TOKENS_MAX,
        }
        return body | {"provider": {"only": list(only)}} if only else body

    def _input(self, question: str, only: Sequence[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "USER", "content": question}],
            "temperature": 0,
            "maxTokens": TOKENS_MAX,
        }
        return body | {"provider": {"only": list(only)}} if only else body


async def events_of(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON of each server-sent event up to `[DONE]`. Raises: DemoFailed, on an error event or without a DONE."""
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        text = line.removeprefix("data:").strip()
        if text == "[DONE]":
            return
        event = json.loads(text)
        if "error" in event:
            raise DemoFailed(f"the stream broke: {event['error']}")
        yield event
    raise DemoFailed("the stream ended without [DONE]")


def _from_rest(
    way: str, text: str, usage: dict[str, Any], headers: httpx.Headers, *, pieces: int | None
) -> Purchase:
    return Purchase(
        request_id=headers["x-request-id"],
        way=way,
        text=text,
        provider=headers["x-raymart-provider"],
        tokens_prompt=usage["prompt_tokens"],
        tokens_completion=usage["completion_tokens"],
        cost=Money.parse(usage["cost"]),
        pieces=pieces,
    )


def _from_graphql(way: str, text: str, answer: dict[str, Any], *, pieces: int | None) -> Purchase:
    return Purchase(
        request_id=answer["requestId"],
        way=way,
        text=text,
        provider=answer["provider"]["slug"],
        tokens_prompt=answer["usage"]["tokensPrompt"],
        tokens_completion=answer["usage"]["tokensCompletion"],
        cost=Money.parse(answer["cost"]["amount"]),
        pieces=pieces,
    )
