"""Reranking over real HTTP: Cohere's and Jina's shapes, and the money behind them."""

import math

import msgspec
import pytest

from raymart_core.wire.embedding import decode_rerank_request
from raymart_marketplace.gateway.vectors.rerank_route import ranked
from support.vector_market import scored


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

    async def test_documents_may_be_objects_and_are_left_out_unless_asked_for(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder()
        response = await market.rerank(documents=[{"text": "red"}, "fox"], truncation=True)
        assert response.json()["results"] == [
            {"index": 0, "relevance_score": 1.0},
            {"index": 1, "relevance_score": 1.0},
        ]

    async def test_it_is_billed_for_the_tokens_that_were_read(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder()
        await market.rerank()
        await market.settle()
        assert await market.usage() == [(12, 0, 24)]
        assert await market.balance() == (1_000_000 - 24, 0)


class TestFalseAnswers:
    @pytest.mark.parametrize(
        "changes",
        [{"scores": (1.0,)}, {"tokens": (1, 1)}, {"tokens": (1, 1, 500)}, {"revision": "sha256:" + "1" * 64}],
        ids=["scores", "counts", "more", "revision"],
    )
    async def test_it_is_not_believed(self, market, changes) -> None:
        async def script(exchange) -> None:
            honest = scored(decode_rerank_request(exchange.body))
            exchange.reply(msgspec.structs.replace(honest, **changes))

        await market.books.fund(1_000_000)
        await market.add_embedder(script)
        assert (await market.rerank()).status_code == 502
        await market.settle()
        assert await market.usage() == []

    async def test_score_that_is_no_number_is_not_believed(self, market) -> None:
        async def script(exchange) -> None:
            honest = msgspec.json.encode(scored(decode_rerank_request(exchange.body)))
            body = honest.replace(b"2.0", b"null") + b"\n"
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

        await market.books.fund(1_000_000)
        await market.add_embedder(script)
        assert (await market.rerank()).status_code == 502


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"query": ""}, "query"),
            ({"documents": []}, "documents"),
            ({"documents": ["a", ""]}, "documents"),
            ({"documents": ["a"] * 1001}, "documents"),
            ({"documents": [{"body": "a"}]}, "documents[0].text"),
            ({"top_n": 0}, "top_n"),
            ({"topn": 1}, "topn"),
        ],
        ids=["query", "none", "empty", "count", "object", "top_n", "typo"],
    )
    async def test_malformed_request_names_its_field(self, market, changes, param) -> None:
        response = await market.rerank(**changes)
        assert response.status_code == 400
        assert response.json()["error"]["param"].replace("[...]", "[0]") == param


class TestRanked:
    def test_equal_scores_keep_the_documents_order(self) -> None:
        assert list(ranked([0.5, 1.0, 0.5, -math.pi], top_n=3)) == [1, 0, 2]
