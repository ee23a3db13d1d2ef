"""Reranking over real HTTP: Cohere's and Jina's shapes, and the money behind them."""

import math

import pytest

from raymart_core.wire.embedding import decode_rerank_request
from raymart_marketplace.gateway.vectors.rerank_route import ranked


class TestAnswers:
    async def test_best_document_comes_first_with_its_index(self, market) -> None:
        await market.books.fund(1_000_000)
        replica = await market.add_embedder(provider="north")
        response = await market.rerank(return_documents=True, top_n=2)
        assert response.status_code == 200
        body = response.json()
        assert body.pop("id") == response.headers["x-request-id"]
        assert body == {
            "model": market.slug,
            "provider": "north",
            "results": [
                {"index": 1, "relevance_score": 2.0, "document": {"text": "a red fox"}},
                {"index": 2, "relevance_score": 1.0, "document": {"text": "red"}},
            ],
            "usage": {"prompt_tokens": 12, "total_tokens": 12, "cost": "0.000000024"},
        }
        assert decode_rerank_request(replica.exchanges[0].body).query == "red fox"
        await market.settle()
        assert await market.usage() == [(12, 0, 24)]
        assert await market.balance() == (1_000_000 - 24, 0)

    async def test_documents_may_be_objects_and_are_left_out_unless_asked_for(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder()
        response = await market.rerank(documents=[{"text": "red"}, "fox"], truncation=True)
        assert response.json()["results"] == [
            {"index": 0, "relevance_score": 1.0},
            {"index": 1, "relevance_score": 1.0},
        ]

    @pytest.mark.parametrize(("timeout", "status"), [(60, 200), (0.001, 504), (0, 400), (1e9, 400)])
    async def test_the_body_may_say_how_long_the_client_waits(self, market, timeout, status):
        await market.books.fund(1_000_000)
        replica = await market.add_embedder()
        response = await market.rerank(timeout=timeout)
        assert response.status_code == status, response.text
        if status == 400:
            assert response.json()["error"]["param"] == "timeout"
        assert len(replica.exchanges) == (status == 200)


class TestRanked:
    def test_equal_scores_keep_the_documents_order(self) -> None:
        assert list(ranked([0.5, 1.0, 0.5, -math.pi], top_n=3)) == [1, 0, 2]
