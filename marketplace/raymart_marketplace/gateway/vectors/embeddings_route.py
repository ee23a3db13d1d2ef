"""`POST /v1/embeddings`: from OpenAI's body to `VectorInference`, and its answer as OpenAI writes it."""

import asyncio
import base64

import msgspec
from starlette.types import Receive, Scope

from raymart_core.money import Money
from raymart_core.wire.embedding import EmbedReply
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.asked_deadline import asked_deadline_s
from raymart_marketplace.gateway.body import read_body
from raymart_marketplace.gateway.endpoint import Answer, Endpoint, Headers
from raymart_marketplace.gateway.generation_route import READ_GRACE_S
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.gateway.served_headers import served_headers
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.gateway.vectors.life import Answered
from raymart_marketplace.gateway.vectors.meter import PAUSE_BYTES, floats
from raymart_marketplace.gateway.vectors.openai_body import parse_embedding
from raymart_marketplace.gateway.vectors.request import Reply
from raymart_marketplace.metering.models import Surface

_encode = msgspec.json.Encoder().encode


class VectorUsage(msgspec.Struct):
    """What is billed. `cost` is in US dollars, a decimal string."""

    prompt_tokens: int
    total_tokens: int
    cost: str


class EmbeddingObject(msgspec.Struct):
    """One vector: numbers, or base64 of float32, little-endian."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class EmbeddingList(msgspec.Struct):
    """The body."""

    data: list[EmbeddingObject]
    model: str
    provider: str
    usage: VectorUsage
    object: str = "list"


class EmbeddingsRoute(Endpoint):
    """Vectors, as numbers or as base64."""

    method = "POST"

    def __init__(
        self, authenticator: Authenticator, *, inference: VectorInference, body_bytes_max: int
    ) -> None:
        super().__init__(authenticator)
        self.headers_of = inference.headers_of
        self._inference = inference
        self._body_bytes_max = body_bytes_max
        self._limit_s = inference.limits.request_deadline_s + READ_GRACE_S

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request. Raises: whatever `VectorInference.run` raises."""
        parsed = parse_embedding(await read_body(scope, receive, bytes_max=self._body_bytes_max))
        async with Presence(scope, limit_s=self._limit_s) as presence:
            answered = await self._inference.run(
                caller,
                parsed.request,
                surface=Surface.REST,
                request_id=answer.request_id,
                deadline_s=asked_deadline_s(scope, parsed.timeout_s),
            )
            presence.dismiss()
            body = await _body(answered, base64_=parsed.base64)
            await answer.json(body, headers_of(answered))


def headers_of(answered: Answered[Reply]) -> Headers:
    """Who served, how often it was tried, and the price."""
    return (
        *served_headers(answered, attempts=answered.attempts),
        (b"x-raymart-cost", decimal_text(answered.cost).encode()),
    )


def vector_usage(*, tokens: int, cost: Money) -> VectorUsage:
    """The object for these counts."""
    return VectorUsage(prompt_tokens=tokens, total_tokens=tokens, cost=decimal_text(cost))


async def _body(answered: Answered[EmbedReply], *, base64_: bool) -> bytes:
    """OpenAI's list, written piece by piece: millions of numbers must not hold the event loop."""
    made: list[msgspec.Raw] = []
    unpaused = 0
    for index, vector in enumerate(answered.reply.vectors):
        shown = base64.b64encode(vector).decode() if base64_ else floats(vector).tolist()
        made.append(msgspec.Raw(_encode(EmbeddingObject(index=index, embedding=shown))))
        unpaused += len(vector)
        if unpaused > PAUSE_BYTES:
            unpaused = 0
            await asyncio.sleep(0)
    usage = vector_usage(tokens=answered.tokens, cost=answered.cost)
    return _encode(
        EmbeddingList(data=made, model=answered.model, provider=answered.provider, usage=usage)  # type: ignore[arg-type] # encoded already
    )
