"""`/v1/completions` over real HTTP: prompts of every kind, OpenAI's legacy shape, and what each answer costs."""

import json

import pytest

from raymart_core.errors import InvalidRequest
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.completions.openai_body import parse_completion


def events_of(text: str) -> list[dict | str]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def completed(market, **changes):
    return await market.client.post(
        "/v1/completions", json={"model": market.slug, "max_tokens": 2, **changes}
    )


async def echo_prompt(exchange):
    """Answer with what was asked."""
    request = exchange.request
    exchange.prompt(request.prompt_ids or (1, 2, 3))
    exchange.step(f"<{request.prompt or request.prompt_ids}>")
    exchange.finish(FinishReason.STOP)


def parsed(**changes):
    return parse_completion(json.dumps({"model": "m", "prompt": "once", **changes}).encode())


class TestUnary:
    async def test_answer_has_openais_shape_and_names_provider_and_cost(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint(provider="north")
        response = await completed(market, prompt="once upon")
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["id"] == "cmpl-" + response.headers["x-request-id"].removeprefix("req_")
        assert (body["object"], body["model"], body["provider"]) == ("text_completion", market.slug, "north")
        assert body["choices"] == [
            {"text": "tok tok ", "index": 0, "logprobs": None, "finish_reason": "length"}
        ]
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 2)
        assert body["usage"]["cost"] == response.headers["x-raymart-cost"] == "0.000000016"
        assert response.headers["x-generation-id"] == response.headers["x-request-id"]
        assert response.headers["x-raymart-model"] == market.slug
        asked = replica.exchanges[0].request
        assert (asked.prompt, asked.messages, asked.prompt_ids) == ("once upon", None, None)
        assert not asked.options.reasoning

    async def test_token_ids_reach_the_engine_as_they_are(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.script = echo_prompt
        body = (await completed(market, prompt=[5, 6, 7, 8])).json()
        assert replica.exchanges[0].request.prompt_ids == (5, 6, 7, 8)
        assert body["usage"]["prompt_tokens"] == 4

    async def test_prompts_of_a_list_are_answered_in_their_order_and_each_is_billed(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = echo_prompt
        body = (await completed(market, prompt=["a", "b"], n=2)).json()
        assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
            (0, "<a>"), (1, "<a>"), (2, "<b>"), (3, "<b>"),
        ]  # fmt: skip
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (12, 4)
        await market.settle()
        assert await market.usage() == [(3, 1, 11)] * 4
        assert body["usage"]["cost"] == "0.000000044"

    async def test_echo_begins_with_the_prompt_and_costs_nothing_more(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        body = (await completed(market, prompt="once ", echo=True)).json()
        assert body["choices"][0]["text"] == "once tok tok "
        assert body["usage"]["completion_tokens"] == 2

    async def test_log_probabilities_have_the_legacy_shape(self, market):
        await market.books.fund(1_000_000)
        top = TokenLogprob(token="to", logprob=-2.0)

        async def script(exchange):
            exchange.prompt()
            exchange.step("ab", lp=(TokenLogprob(token="ab", logprob=-0.5, top=(top,)),))
            exchange.step("c", lp=(TokenLogprob(token="c", logprob=-1.5),))
            exchange.finish()

        replica = await market.add_endpoint()
        replica.script = script
        body = (await completed(market, prompt="x", logprobs=1)).json()
        assert replica.exchanges[0].request.sampling.top_logprobs == 1
        assert body["choices"][0]["logprobs"] == {
            "tokens": ["ab", "c"],
            "token_logprobs": [-0.5, -1.5],
            "top_logprobs": [{"to": -2.0}, {}],
            "text_offset": [0, 2],
        }

    async def test_a_refusal_of_the_engine_names_the_field_of_this_body(self, market):
        await market.books.fund(1_000_000)

        async def refuse(exchange):
            exchange.refuse(400, "no such token", Fault.CUSTOMER, "prompt_ids")

        (await market.add_endpoint()).script = refuse
        response = await completed(market, prompt=[5])
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt"


class TestStream:
    async def test_chunks_have_openais_shape(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="north")
        response = await completed(
            market, prompt="once ", echo=True, stream=True, stream_options={"include_usage": True}
        )
        *chunks, usage, done = events_of(response.text)
        assert done == "[DONE]"
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        assert {chunk["provider"] for chunk in chunks} == {"north"}
        texts = [chunk["choices"][0]["text"] for chunk in chunks]
        assert texts == ["once ", "tok ", "tok ", ""]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
        assert usage["usage"]["completion_tokens"] == 2

    async def test_offsets_go_on_from_chunk_to_chunk(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step("ab", lp=(TokenLogprob(token="ab", logprob=-0.5),))
            exchange.step("c", lp=(TokenLogprob(token="c", logprob=-1.5),))
            exchange.finish()

        (await market.add_endpoint()).script = script
        response = await completed(market, prompt="x", logprobs=0, stream=True)
        first, second, *_ = events_of(response.text)
        assert first["choices"][0]["logprobs"]["text_offset"] == [0]
        assert second["choices"][0]["logprobs"]["text_offset"] == [2]

    async def test_a_stream_that_breaks_ends_with_its_error_and_no_terminator(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step()
            exchange.fail()

        (await market.add_endpoint()).script = script
        response = await completed(market, prompt="x", stream=True)
        last = events_of(response.text)[-1]
        assert last["choices"][0]["finish_reason"] == "error"
        assert last["error"]["code"] == "upstream_failed"


class TestBodies:
    def test_defaults_are_openais(self):
        asked = parsed()
        assert asked.request.sampling.max_tokens == 16
        assert asked.request.sampling.top_logprobs is None
        assert not asked.stream

    def test_best_of_may_be_what_is_asked_for_anyway(self):
        assert len(parsed(n=3, best_of=3).choices) == 3

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"prompt": ""}, "prompt"),
            ({"prompt": []}, "prompt"),
            ({"prompt": [1, "a"]}, "prompt"),
            ({"prompt": [[]]}, "prompt"),
            ({"prompt": [-1]}, "prompt"),
            ({"prompt": [2**31]}, "prompt"),
            ({"prompt": [10**30]}, "prompt"),
            ({"prompt": ["a"] * 33}, "prompt"),
            ({"prompt": ["a"] * 5, "n": 8}, "prompt"),
            ({"prompt": {"a": 1}}, "prompt"),
            ({"prompt": None}, "prompt"),
            ({"suffix": "the end"}, "suffix"),
            ({"best_of": 2}, "best_of"),
            ({"n": 2, "best_of": 4}, "best_of"),
            ({"n": 0}, "n"),
            ({"n": 9}, "n"),
            ({"echo": True, "logprobs": 1}, "echo"),
            ({"echo": True, "prompt": [1]}, "echo"),
            ({"logprobs": 6}, "logprobs"),
            ({"logprobs": True}, "logprobs"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"model": None}, "model"),
            ({"guided_json": {}}, "guided_json"),
            ({"prmpt": "x"}, "prmpt"),
        ],
    )
    def test_the_field_that_is_wrong_is_named(self, changes, param):
        with pytest.raises(InvalidRequest) as caught:
            parsed(**changes)
        assert (caught.value.param or "").partition("[")[0] == param

    def test_null_means_not_set(self):
        names = ["suffix", "best_of", "n", "stop", "seed", "logprobs", "echo", "max_tokens", "stream", "user"]
        assert parsed(**dict.fromkeys(names)) == parsed()
