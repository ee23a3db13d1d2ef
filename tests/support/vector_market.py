"""The gateway market with embeddings and reranking, and scripts of replicas that serve them."""

import contextlib
import struct
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette

from raymart_billing.connections import Pool
from raymart_core.ports import Prices
from raymart_core.wire.embedding import (
    EmbedReply,
    EmbedRequest,
    RerankReply,
    RerankRequest,
    decode_embed_request,
    decode_rerank_request,
)
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.routes import gateway_routes
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.gateway.vectors.routes import vector_routes
from raymart_marketplace.oversight.live import LiveControls
from support.gateway_market import LIMITS, GatewayMarket, serving
from support.scripted_replica import REVISION, Exchange

PRICES = Prices(token_prompt=2)


def unit(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def embedded(request: EmbedRequest) -> EmbedReply:
    """Each input as [1, 0, ...], read in as many tokens as it has words or ids."""
    inputs = request.texts or request.ids
    vector = unit(1.0, *[0.0] * ((request.dimensions or 3) - 1))
    tokens = tuple(len(one.split()) if isinstance(one, str) else len(one) for one in inputs)
    return EmbedReply(vectors=(vector,) * len(inputs), tokens=tokens, revision=REVISION, engine="scripted 1")


def scored(request: RerankRequest) -> RerankReply:
    """Each document by how many words of the query it has."""
    words = set(request.query.split())
    scores = tuple(float(len(words & set(document.split()))) for document in request.documents)
    tokens = tuple(len(words) + len(document.split()) for document in request.documents)
    return RerankReply(scores=scores, tokens=tokens, revision=REVISION, engine="scripted 1")


async def answer(exchange: Exchange) -> None:
    """The honest script."""
    if b'"query"' in exchange.body:
        exchange.reply(scored(decode_rerank_request(exchange.body)))
    else:
        exchange.reply(embedded(decode_embed_request(exchange.body)))


class VectorMarket(GatewayMarket):
    async def serve(self, inference: Inference, *, body_bytes_max: int = 1_000_000) -> httpx.AsyncClient:
        self.vectors = VectorInference(
            directory=self.directory, plan=inference.planner.plan, hold_gate=self.hold_gate,
            usage_sink=self.usage_sink, rater=self.rater, limits=self.limits, admission=LiveControls(self.sessions),
        )  # fmt: skip
        self.stack.push_async_callback(lambda: self.vectors.drain(timeout_s=30))
        more = vector_routes(
            inference=self.vectors, authenticator=self.authenticator, body_bytes_max=body_bytes_max
        )
        app = Starlette(
            routes=gateway_routes(
                inference=inference, authenticator=self.authenticator, directory=self.directory, models=self.models,
                body_bytes_max=body_bytes_max, more=more,
            )
        )  # fmt: skip
        url = await self.stack.enter_async_context(serving(app))
        return await self.stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)
        )

    async def add_embedder(self, script=answer, **changes: object):
        replica = await self.add_endpoint(**{"prices": PRICES, **changes})
        replica.script = script
        return replica

    async def embed(self, **changes: object) -> httpx.Response:
        body = {"model": self.slug, "input": "three words here", **changes}
        return await self.client.post("/v1/embeddings", json=body)

    async def rerank(self, **changes: object) -> httpx.Response:
        body = {"model": self.slug, "query": "red fox", "documents": ["a dog", "a red fox", "red"], **changes}
        return await self.client.post("/v1/rerank", json=body)

    async def settle(self) -> None:
        await self.vectors.drain(timeout_s=30)
        await super().settle()


@contextlib.asynccontextmanager
async def vector_market(
    sessions: Sessions, pool: Pool, *, limits: InferenceLimits = LIMITS
) -> AsyncIterator[VectorMarket]:
    market = VectorMarket(sessions, pool, limits=limits)
    async with market.stack:
        await market.open()
        yield market
