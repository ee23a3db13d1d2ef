"""`/completion` over real HTTP: llama.cpp's shape, metered like everything else."""

import json

import pytest

from raymart_core.errors import InvalidRequest
from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.completions.llama_body import parse_llama
from raymart_marketplace.gateway.request import Sampling


async def completed(market, **changes):
    body = {"model": market.slug, "prompt": "once", "n_predict": 2, **changes}
    return await market.client.post("/completion", json=body)


def events_of(text: str) -> list[dict]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


def parsed(**changes):
    return parse_llama(json.dumps({"model": "m", "prompt": "once", **changes}).encode())


class TestAnswers:
    async def test_the_object_is_llama_cpps(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="north")
        response = await completed(market, temperature=0, seed=7, stop=["\n"])
        body = response.json()
        assert (body["content"], body["stop"], body["stop_type"]) == ("tok tok ", True, "limit")
        assert (body["tokens_predicted"], body["tokens_evaluated"]) == (2, 3)
        assert body["tokens"] == [7, 7]
        assert (body["model"], body["provider"], body["prompt"]) == (market.slug, "north", "once")
        assert body["generation_settings"] == {
            "n_predict": 2, "temperature": 0.0, "top_p": 0.95, "seed": 7, "stop": ["\n"],
        }  # fmt: skip
        assert body["usage"]["cost"] == response.headers["x-raymart-cost"]
        assert "completion_probabilities" not in body
        await market.settle()
        assert await market.usage() == [(3, 2, 16)]

    @pytest.mark.parametrize(("timeout", "status"), [(60, 200), (0.001, 504), (0, 400), (1e9, 400)])
    async def test_the_body_may_say_how_long_the_client_waits(self, market, timeout, status):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        response = await completed(market, timeout=timeout)
        assert response.status_code == status, response.text
        if status == 400:
            assert response.json()["error"]["param"] == "timeout"
        assert len(replica.exchanges) == (status == 200)

    async def test_an_end_of_its_own_is_told_from_the_limit(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step("a", lp=(TokenLogprob(token="a", logprob=-1.0, bytes=(97,)),))
            exchange.finish(FinishReason.STOP)

        replica = await market.add_endpoint()
        replica.script = script
        body = (await completed(market, n_probs=1, n_predict=-1)).json()
        assert body["stop_type"] == "eos"
        assert body["completion_probabilities"] == [
            {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}
        ]
        assert replica.exchanges[0].request.sampling.top_logprobs == 1

    async def test_a_stream_ends_with_stop_and_no_terminator(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        response = await completed(market, stream=True)
        *pieces, last = events_of(response.text)
        assert [(piece["content"], piece["stop"], piece["tokens_predicted"]) for piece in pieces] == [
            ("tok ", False, 1), ("tok ", False, 2),
        ]  # fmt: skip
        assert (last["content"], last["stop"], last["tokens_predicted"]) == ("", True, 2)
        await market.settle()
        assert await market.usage() == [(3, 2, 16)]

    async def test_a_stream_that_breaks_ends_with_an_error(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step()
            exchange.cut()

        (await market.add_endpoint()).script = script
        last = events_of((await completed(market, stream=True)).text)[-1]
        assert last["error"]["code"] == "upstream_failed"

    async def test_a_schema_is_asked_of_the_engine(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        await completed(market, json_schema={"type": "object"})
        wanted = replica.exchanges[0].request.options.response_format
        assert wanted is not None
        assert json.loads(bytes(wanted.schema)) == {"type": "object"}

    async def test_without_a_key_it_is_refused(self, market):
        response = await market.client.post("/completion", json={}, headers={"authorization": ""})
        assert response.status_code == 401


class TestBodies:
    def test_defaults_are_llama_cpps(self):
        assert parsed().request.sampling == Sampling(max_tokens=None, temperature=0.8, top_p=0.95)

    def test_minus_one_means_no_limit_and_no_seed(self):
        assert parsed(n_predict=-1, seed=-1).request.sampling == parsed().request.sampling

    def test_what_shapes_sampling_further_is_ignored(self):
        assert parsed(top_k=40, mirostat=2, cache_prompt=True, samplers=["top_k"]) == parsed()

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"model": None}, "model"),
            ({"prompt": ["a", "b"]}, "prompt"),
            ({"prompt": ""}, "prompt"),
            ({"n_predict": 0}, "n_predict"),
            ({"n_predict": -2}, "n_predict"),
            ({"n_probs": 21}, "top_logprobs"),
            ({"grammar": "root ::= 'a'"}, "grammar"),
            ({"json_schema": [1]}, "json_schema"),
            ({"id_slot": 1}, "id_slot"),
            ({"lora": []}, "lora"),
        ],
    )
    def test_the_field_that_is_wrong_is_named(self, changes, param):
        with pytest.raises(InvalidRequest) as caught:
            parsed(**changes)
        assert caught.value.param == param
