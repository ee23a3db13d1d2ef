"""Embeddings over GraphQL: the same pipeline, money and refusals as REST."""

import base64
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest_asyncio

from raymart_core.wire.embedding import decode_embed_request
from raymart_marketplace.metering.models import Surface
from support.api_server import Api, Seller, Tenant
from support.completions import price, request_row, until_settled
from support.scripted_replica import Exchange, ScriptedReplica
from support.vector_market import embedded, unit

CREATE = """
mutation ($input: CreateEmbeddingInput!) {
  createEmbedding(input: $input) {
    embedding {
      requestId model dimensions attempts createdAt
      embeddings { index values base64 }
      usage { tokensPrompt tokensCompletion tokensTotal }
      cost { amount currency }
      provider { slug }
    }
    userErrors { code field message }
  }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def embedder(api: Api, seller: Seller) -> AsyncIterator[ScriptedReplica]:
    """The seller's replica, on line, making vectors."""

    async def answer(exchange: Exchange) -> None:
        made = embedded(decode_embed_request(exchange.body))
        exchange.reply(msgspec.structs.replace(made, revision=seller.digest))

    async with ScriptedReplica(answer) as replica:
        await api.serve(seller, replica)
        yield replica
        api.retire(seller)


class TestCreateEmbedding:
    async def test_vectors_usage_and_cost(
        self, api: Api, customer: Tenant, seller: Seller, embedder: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        asked = {"model": seller.model_slug, "input": ["two words", "one"], "dimensions": 2}
        data = (await api(CREATE, customer.owner, input=asked)).data["createEmbedding"]
        assert data["userErrors"] == []
        made = data["embedding"]
        assert made["embeddings"] == [
            {"index": index, "values": [1.0, 0.0], "base64": base64.b64encode(unit(1, 0)).decode()}
            for index in (0, 1)
        ]
        assert made["usage"] == {"tokensPrompt": 3, "tokensCompletion": 0, "tokensTotal": 3}
        assert (made["dimensions"], made["provider"]["slug"]) == (2, seller.provider_slug)
        assert Decimal(made["cost"]["amount"]) == price(3, 0)
        row = await request_row(api, made["requestId"])
        assert (row.surface, row.streamed, row.user_id) == (Surface.GRAPHQL, False, customer.owner.user_id)
        settled = await until_settled(api, customer)
        assert settled.posted.decimal() == 1 - price(3, 0)

    async def test_token_ids_reach_the_replica(
        self, api: Api, customer: Tenant, seller: Seller, embedder: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        asked = {"model": seller.model_slug, "tokenIds": [[5, 6], [7]]}
        data = (await api(CREATE, customer.owner, input=asked)).data["createEmbedding"]
        assert data["embedding"]["usage"]["tokensPrompt"] == 3
        assert decode_embed_request(embedder.exchanges[0].body).ids == ((5, 6), (7,))

    async def test_wrong_input_is_a_user_error_with_its_field(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        for asked, field in (
            ({"input": []}, "input"),
            ({"input": ["a"], "tokenIds": [[1]]}, "input"),
            ({"input": ["a"] * 257}, "input"),
            ({"tokenIds": [[1]] * 257}, "tokenIds"),
            ({"input": ["a"], "dimensions": 0}, "dimensions"),
        ):
            made = await api(CREATE, customer.owner, input={"model": seller.model_slug, **asked})
            [error] = made.data["createEmbedding"]["userErrors"]
            assert error["field"][-1] == field, error

    async def test_without_funds_no_engine_is_touched(
        self, api: Api, customer: Tenant, seller: Seller, embedder: ScriptedReplica
    ) -> None:
        asked = {"model": seller.model_slug, "input": ["a"]}
        [error] = (await api(CREATE, customer.owner, input=asked)).data["createEmbedding"]["userErrors"]
        assert error["code"] == "INSUFFICIENT_FUNDS"
        assert embedder.exchanges == []
