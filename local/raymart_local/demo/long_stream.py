"""A long streamed answer whose provider is killed in the middle of it: what its reader sees."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from raymart_core.money import Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import REQUEST_TIMEOUT_S
from raymart_local.demo.purchase import MODEL, Buyer, events_of

QUESTION = "What is a payout?"
BEGINNING = "A payout is the money sent to a provider for the work its machines have done."
"""The known answer; told to go on, the model then says whatever comes to it."""
TOKENS = 300
"""More than are made within the time that a kill takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongStream:
    """One stream, as it was read to its end."""

    request_id: str
    text: str
    finish: str
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    resumed_at: Sequence[int]
    """How many tokens had come each time that another provider went on."""
    providers: Sequence[str]
    """Slugs, in the order in which they served."""
    longest_gap_s: float

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for came."""
        return (
            self.text.startswith(BEGINNING) and self.finish == "length" and self.tokens_completion == TOKENS
        )


async def read_long_stream(buyer: Buyer, provider: str, *, begun: asyncio.Event) -> LongStream:
    """Ask `provider` first, set `begun` at the first text, read to the end. Raises: DemoFailed when the stream breaks."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "provider": {"order": [provider]},
    }
    loop = asyncio.get_running_loop()
    chunks: list[dict[str, Any]] = []
    last_at, longest_gap_s = loop.time(), 0.0
    async with buyer.http.stream(
        "POST",
        f"{buyer.base_url}/v1/chat/completions",
        json=body,
        headers=buyer.headers,
        timeout=REQUEST_TIMEOUT_S,
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            raise DemoFailed(f"REST answered {answer.status_code}: {(await answer.aread()).decode()}")
        async with aclosing(events_of(answer)) as events:
            async for event in events:
                if begun.is_set():
                    longest_gap_s = max(longest_gap_s, loop.time() - last_at)
                last_at = loop.time()
                chunks.append(event)
                if any(choice["delta"].get("content") for choice in event["choices"]):
                    begun.set()
    return _read(chunks, request_id=answer.headers["x-request-id"], longest_gap_s=longest_gap_s)


def _read(chunks: Sequence[dict[str, Any]], *, request_id: str, longest_gap_s: float) -> LongStream:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    usage = next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))
    resumed = [one for chunk in chunks for one in chunk.get("failover", {}).get("resumed", ())]
    return LongStream(
        request_id=request_id,
        text="".join(choice["delta"].get("content") or "" for choice in choices),
        finish=next(choice["finish_reason"] for choice in reversed(choices) if choice["finish_reason"]),
        tokens_prompt=usage["prompt_tokens"],
        tokens_completion=usage["completion_tokens"],
        cost=Money.parse(usage["cost"]),
        resumed_at=[one["position"] for one in resumed],
        providers=list(dict.fromkeys(chunk["provider"] for chunk in chunks)),
        longest_gap_s=longest_gap_s,
    )
