"""Embeddings over real HTTP: OpenAI's shapes, and the money behind them."""

import asyncio
import base64

import msgspec
import pytest

from raymart_core.units import Fault
from raymart_core.wire.embedding import decode_embed_request
from support.scripted_replica import REVISION
from support.vector_market import PRICES, embedded, unit


def replying(**changes: object):
    """A script whose honest answer is changed."""

    async def script(exchange) -> None:
        honest = embedded(decode_embed_request(exchange.body))
        exchange.reply(msgspec.structs.replace(honest, **changes))

    return script


async def refusing(exchange) -> None:
    exchange.refuse(503, "busy", Fault.PROVIDER)


class TestAnswers:
    async def test_answer_has_openais_shape_and_names_provider_and_cost(self, market) -> None:
        await market.books.fund(1_000_000)
        replica = await market.add_embedder(provider="north")
        response = await market.embed(dimensions=2)
        assert response.status_code == 200
        assert response.json() == {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}],
            "model": market.slug,
            "provider": "north",
            "usage": {"prompt_tokens": 3, "total_tokens": 3, "cost": "0.000000006"},
        }
        assert response.headers["x-raymart-provider"] == "north"
        assert response.headers["x-raymart-cost"] == "0.000000006"
        request = decode_embed_request(replica.exchanges[0].body)
        assert (request.texts, request.dimensions) == (("three words here",), 2)
        assert replica.exchanges[0].headers["x-request-id"] == response.headers["x-request-id"]

    @pytest.mark.parametrize(("timeout", "status"), [(60, 200), (0.001, 504), (0, 400), (1e9, 400)])
    async def test_the_body_may_say_how_long_the_client_waits(self, market, timeout, status):
        await market.books.fund(1_000_000)
        replica = await market.add_embedder()
        response = await market.embed(timeout=timeout)
        assert response.status_code == status, response.text
        if status == 400:
            assert response.json()["error"]["param"] == "timeout"
        assert len(replica.exchanges) == (status == 200)

    async def test_base64_is_the_vectors_bytes(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder()
        response = await market.embed(input=["a", "b"], encoding_format="base64")
        made = [base64.b64decode(one["embedding"]) for one in response.json()["data"]]
        assert made == [unit(1, 0, 0)] * 2

    async def test_token_ids_reach_the_replica_as_they_are(self, market) -> None:
        await market.books.fund(1_000_000)
        replica = await market.add_embedder()
        response = await market.embed(input=[[5], [6, 7]])
        assert response.json()["usage"]["prompt_tokens"] == 3
        request = decode_embed_request(replica.exchanges[0].body)
        assert (request.texts, request.ids) == ((), ((5,), (6, 7)))

    async def test_large_batch_arrives_whole(self, market) -> None:
        await market.books.fund(10**9)
        await market.add_embedder()
        response = await market.embed(input=["word"] * 2048, dimensions=256, encoding_format="base64")
        made = response.json()
        assert [one["index"] for one in made["data"]] == list(range(2048))
        assert made["usage"]["prompt_tokens"] == 2048


class TestMoney:
    async def test_served_request_is_billed_once_with_nothing_left_held(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder()
        await market.embed(input=["two words", "one"])
        await market.settle()
        assert await market.usage() == [(3, 0, 6)]
        assert await market.balance() == (1_000_000 - 6, 0)
        [(_, *row)] = await market.requests()
        assert row == ["completed", "stop", None]
        assert await market.attempts() == [("delivered", "none", "", 0)]
        assert set(market.directory.running.values()) == {0}

    async def test_balance_that_does_not_cover_the_bound_is_refused_untouched(self, market) -> None:
        await market.books.fund(100)
        replica = await market.add_embedder()
        response = await market.embed()
        assert response.status_code == 402
        assert replica.exchanges == []
        assert await market.balance() == (100, 0)

    async def test_batch_longer_than_any_context_is_held_whole(self, market) -> None:
        """Two hundred inputs of ten words: their sum is over the context of 1,024, each is within it."""
        await market.add_embedder()
        texts = ["word " * 10] * 200
        bound = 200 * (50 + 64) * 2
        await market.books.fund(bound - 1)
        assert (await market.embed(input=texts)).status_code == 402
        await market.books.fund(1)
        assert (await market.embed(input=texts)).status_code == 200
        await market.settle()
        assert await market.usage() == [(2000, 0, 4000)]

    async def test_endpoint_that_fails_is_replaced_and_earns_nothing(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder(replying(revision="sha256:" + "00" * 32), provider="liar")
        await market.add_embedder(provider="north", prices=msgspec.structs.replace(PRICES, token_prompt=3))
        response = await market.embed()
        assert (response.status_code, response.json()["provider"]) == (200, "north")
        assert response.headers["x-raymart-attempts"] == "2"
        await market.settle()
        assert await market.usage() == [(3, 0, 9)]
        assert [row[:2] for row in await market.attempts()] == [("failed", "provider"), ("delivered", "none")]
        assert [reason for _, reason in market.directory.failures] == [
            f"the replica sent another revision than {REVISION}"
        ]

    async def test_every_endpoint_failing_costs_nothing(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder(refusing)
        response = await market.embed()
        assert response.status_code == 503
        await market.settle()
        assert await market.usage() == []
        assert await market.balance() == (1_000_000, 0)

    async def test_client_that_leaves_stops_the_engine_and_pays_nothing(self, market) -> None:
        await market.books.fund(1_000_000)

        async def hang(exchange) -> None:
            await exchange.gone.wait()

        replica = await market.add_embedder(hang)
        asking = asyncio.create_task(market.embed())
        async with asyncio.timeout(30):
            while not replica.exchanges:
                await asyncio.sleep(0.005)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await replica.exchanges[0].gone.wait()
        await market.wait_for_no_hold()
        await market.settle()
        assert await market.usage() == []
        [(_, state, *_)] = await market.requests()
        assert state == "cancelled"


class TestFalseAnswers:
    """The provider's fault: nothing is billed, and the customer is told that the endpoint failed. More: test_meter.py."""

    async def test_it_is_not_believed(self, market) -> None:
        await market.books.fund(1_000_000)
        await market.add_embedder(replying(tokens=(81,)))
        response = await market.embed()
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_failed"
        await market.settle()
        assert await market.usage() == []
        [(outcome, fault, said, _)] = await market.attempts()
        assert (outcome, fault) == ("failed", "provider")
        assert said == "the replica sent 81 tokens of an input that can have 1 to 80"

    async def test_endless_answer_is_cut_off(self, market) -> None:
        await market.books.fund(1_000_000)

        async def flood(exchange) -> None:
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n{")
            while not exchange.gone.is_set():
                exchange.raw(b" " * 50_000)
                await asyncio.sleep(0.001)

        await market.add_embedder(flood)
        response = await market.embed()
        assert response.status_code == 502
        [(_, fault, said, _)] = await market.attempts()
        assert fault == "provider"
        assert said.startswith("the replica sent a line of more than")

    async def test_words_of_the_replica_reach_only_the_customer(self, market) -> None:
        await market.books.fund(1_000_000)

        async def refuse(exchange) -> None:
            exchange.refuse(400, "input has 99 tokens and the model reads 64", Fault.CUSTOMER, "input")

        await market.add_embedder(refuse)
        response = await market.embed()
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "input")
        assert error["message"] == "input has 99 tokens and the model reads 64"
        await market.settle()
        assert await market.requests() == []


class TestRefusals:
    async def test_malformed_request_names_its_field_and_leaves_no_row(self, market) -> None:
        await market.add_embedder()
        response = await market.embed(input=["a", 1])
        assert (response.status_code, response.json()["error"]["param"]) == (400, "input")
        assert await market.requests() == []

    async def test_unknown_model_is_404(self, market) -> None:
        response = await market.embed(model="test/none")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")

    async def test_no_endpoint_is_503_with_reasons(self, market) -> None:
        await market.books.fund(1_000_000)
        response = await market.embed()
        assert response.status_code == 503
        assert response.json()["error"]["metadata"]["reasons"]

    async def test_get_is_not_allowed(self, market) -> None:
        assert (await market.client.get("/v1/embeddings")).status_code == 405

    async def test_key_is_needed(self, market) -> None:
        response = await market.client.post("/v1/embeddings", json={}, headers={"authorization": "Bearer x"})
        assert response.status_code == 401
