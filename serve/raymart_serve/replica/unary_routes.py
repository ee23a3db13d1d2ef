"""`POST /v1/embed`, `/v1/rerank` and `/v1/predict`: one body in, one out. What an engine cannot do is refused with 400."""

from typing import Protocol

import msgspec

from raymart_core.wire.embedding import EmbedReply, PredictReply, RerankReply
from raymart_core.wire.replica import encode
from raymart_serve.engines.protocol import Embeds, Engine, Predicts, RequestRefused, Reranks
from raymart_serve.replica.http_exchange import JSON, Exchange, Request
from raymart_serve.replica.unary_request import read_embed_request, read_predict_request, read_rerank_request

PIECE_BYTES = 64 * 1024
"""What is written at once of a large answer, so that a slow reader holds it back."""


class Serving(Protocol):
    """What the routes need of the replica."""

    engine: Engine
    revision: str


class UnaryRoutes:
    """The routes of engines that answer at once. Each raises what the engine raises."""

    def __init__(self, replica: Serving) -> None:
        self._replica = replica

    async def embed(self, request: Request, exchange: Exchange) -> None:
        """A vector for each input."""
        engine = self._replica.engine
        if not isinstance(engine, Embeds):
            raise RequestRefused(f"{engine.label} makes no embeddings of this model", param="model")
        asked = read_embed_request(request.body)
        made = await engine.embed(asked.texts or asked.ids, dimensions=asked.dimensions)
        reply = EmbedReply(
            vectors=tuple(embedding.vector for embedding in made),
            tokens=tuple(embedding.tokens for embedding in made),
            revision=self._replica.revision,
            engine=engine.label,
        )
        await _send(exchange, reply)

    async def rerank(self, request: Request, exchange: Exchange) -> None:
        """A score for each document."""
        engine = self._replica.engine
        if not isinstance(engine, Reranks):
            raise RequestRefused(f"{engine.label} does not rerank with this model", param="model")
        asked = read_rerank_request(request.body)
        made = await engine.rerank(asked.query, asked.documents)
        reply = RerankReply(
            scores=tuple(score.score for score in made),
            tokens=tuple(score.tokens for score in made),
            revision=self._replica.revision,
            engine=engine.label,
        )
        await _send(exchange, reply)

    async def predict(self, request: Request, exchange: Exchange) -> None:
        """The model's outputs."""
        engine = self._replica.engine
        if not isinstance(engine, Predicts):
            raise RequestRefused(f"{engine.label} takes no tensors for this model", param="model")
        asked = read_predict_request(request.body)
        outputs = tuple(await engine.predict(asked.inputs))
        await _send(
            exchange, PredictReply(outputs=outputs, revision=self._replica.revision, engine=engine.label)
        )


async def _send(exchange: Exchange, reply: msgspec.Struct) -> None:
    """Send `reply` no faster than it is read. Raises: ReaderTooSlow."""
    # The line's end lets the gateway read it like the events of other answers.
    body = encode(reply) + b"\n"
    last = (len(body) - 1) // PIECE_BYTES * PIECE_BYTES
    exchange.start(JSON)
    for start in range(0, last, PIECE_BYTES):
        await exchange.write(body[start : start + PIECE_BYTES])
    await exchange.finish(body[last:])
