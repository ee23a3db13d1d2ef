"""Chat completions over real HTTP: OpenAI's shapes, and the money behind them."""

import json

import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta
from support.scripted_replica import answer


def events_of(text: str) -> list[dict | str]:
    """The data of each server-sent event."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CALLED = [
    {
        "id": "call-1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    },
    {"id": "call-2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
]


async def call_tools(exchange):
    """Think, say something, make two calls."""
    exchange.prompt()
    exchange.step("", r="Weather is asked for.")
    exchange.step("I look. ")
    exchange.step("", tool=(ToolDelta(index=0, id="call-1", name="get_weather"),))
    exchange.step("", tool=(ToolDelta(index=0, arguments='{"city": '),))
    second = ToolDelta(index=1, id="call-2", name="get_weather", arguments="{}")
    exchange.step("", tool=(ToolDelta(index=0, arguments='"Oslo"}'), second))
    exchange.finish(FinishReason.STOP)


class TestTools:
    async def test_calls_and_reasoning_have_their_own_fields_and_are_billed(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = call_tools
        body = (await market.chat(tools=[WEATHER], max_tokens=9)).json()
        (choice,) = body["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"] == {
            "role": "assistant",
            "content": "I look. ",
            "refusal": None,
            "reasoning": "Weather is asked for.",
            "tool_calls": CALLED,
        }
        assert body["usage"]["completion_tokens"] == 5
        await market.settle()
        assert [row[1] for row in await market.usage()] == [5]

    async def test_an_answer_that_only_calls_has_no_content(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step("", tool=(ToolDelta(index=0, id="call-1", name="get_weather", arguments="{}"),))
            exchange.finish(FinishReason.LENGTH)

        (await market.add_endpoint()).script = script
        (choice,) = (await market.chat(tools=[WEATHER])).json()["choices"]
        assert choice["message"]["content"] is None
        assert choice["finish_reason"] == "length"

    async def test_streamed_pieces_make_the_same_calls(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = call_tools
        response = await market.chat(tools=[WEATHER], stream=True, max_tokens=9)
        *chunks, done = events_of(response.text)
        assert done == "[DONE]"
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("reasoning", "") for delta in deltas) == "Weather is asked for."
        assert "".join(delta.get("content", "") for delta in deltas) == "I look. "
        pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
        assert [piece["index"] for piece in pieces] == [0, 0, 0, 1]
        assert pieces[0] == {
            "index": 0, "id": "call-1", "type": "function", "function": {"name": "get_weather", "arguments": ""},
        }  # fmt: skip
        assert "id" not in pieces[1]
        arguments = "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 0)
        assert arguments == CALLED[0]["function"]["arguments"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    async def test_what_is_asked_of_the_engine_reaches_it_with_the_tenant_s_salt(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
        for _ in range(2):
            await market.chat(tools=[WEATHER], tool_choice="required", response_format=schema)
        first, again = (exchange.request.options for exchange in replica.exchanges)
        assert first == again
        assert len(first.cache_salt) == 32
        assert [tool.name for tool in first.tools] == ["get_weather"]
        assert (first.tool_choice, first.tool_name, first.reasoning) == ("required", None, True)
        assert first.response_format is not None
        assert json.loads(bytes(first.response_format.schema)) == {"type": "object"}

    async def test_a_call_that_was_not_asked_for_is_the_providers_fault(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = call_tools
        response = await market.chat()
        assert response.status_code == 502
        await market.wait_for_no_hold()
        assert await market.usage() == []


class TestUnary:
    async def test_answer_has_openais_shape_and_names_provider_and_cost(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="north")
        response = await market.chat()
        assert response.status_code == 200
        body = response.json()
        assert body["id"].startswith("chatcmpl-")
        assert body["object"] == "chat.completion"
        assert body["model"] == market.slug
        assert body["provider"] == "north"
        assert body["system_fingerprint"] == "fp_abababababab"
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "tok tok tok tok ", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ]
        usage = body["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 4, 7)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0
        assert usage["cost"] == "0.000000026"
        assert response.headers["x-request-id"] == "req_" + body["id"].removeprefix("chatcmpl-")
        assert response.headers["x-raymart-provider"] == "north"
        assert response.headers["x-raymart-attempts"] == "1"
        assert response.headers["x-raymart-cost"] == "0.000000026"

    async def test_served_request_is_billed_once_with_nothing_left_held(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        response = await market.chat()
        await market.settle()
        assert await market.usage() == [(3, 4, 26)]
        assert await market.balance() == (1_000_000 - 26, 0)
        [(request_id, *row)] = await market.requests()
        assert row == ["completed", "length", None]
        assert response.headers["x-request-id"] == f"req_{request_id.hex}"
        assert await market.attempts() == [("delivered", "none", "", 4)]
        assert market.directory.successes == [next(iter(market.directory.endpoints))]
        assert set(market.directory.running.values()) == {0}
        assert replica.exchanges[0].headers["x-request-id"] == f"req_{request_id.hex}"

    async def test_sampling_reaches_the_replica(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        await market.chat(
            temperature=0.5,
            top_p=0.9,
            seed=-1,
            stop="x",
            max_completion_tokens=2,
            logprobs=True,
            ignore_eos=True,
        )
        request = replica.exchanges[0].request
        sampling = request.sampling
        assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.9, 0xFFFF_FFFF)
        assert (sampling.stop, sampling.max_tokens, sampling.top_logprobs) == (("x",), 2, 0)
        assert [(message.role, message.content) for message in request.messages] == [("user", "hi")]
        assert sampling.ignore_eos

    async def test_log_probabilities_have_openais_shape(self, market):
        await market.books.fund(1_000_000)
        top = TokenLogprob(token="to", logprob=-2.0, bytes=(116, 111))
        logprob = TokenLogprob(token="tok", logprob=-0.5, bytes=(116, 111, 107), top=(top,))

        async def script(exchange):
            exchange.prompt()
            exchange.step(lp=(logprob,))
            exchange.step(lp=(logprob,))
            exchange.finish(FinishReason.STOP)

        (await market.add_endpoint()).script = script
        body = (await market.chat(logprobs=True, top_logprobs=1)).json()
        expected = {
            "token": "tok", "logprob": -0.5, "bytes": [116, 111, 107],
            "top_logprobs": [{"token": "to", "logprob": -2.0, "bytes": [116, 111]}],
        }  # fmt: skip
        assert body["choices"][0]["logprobs"] == {"content": [expected, expected], "refusal": None}

    async def test_no_token_at_all_costs_nothing(self, market):
        await market.books.fund(1_000_000)

        async def silent(exchange):
            exchange.prompt()
            exchange.finish(FinishReason.STOP)

        (await market.add_endpoint()).script = silent
        response = await market.chat()
        assert response.json()["choices"][0]["message"]["content"] == ""
        assert response.headers["x-raymart-cost"] == "0.000000000"
        await market.wait_for_no_hold()
        assert await market.balance() == (1_000_000, 0)
        assert await market.usage() == []


class TestStream:
    async def test_chunks_have_openais_shape(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="north")
        response = await market.chat(stream=True, max_tokens=2)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-raymart-provider"] == "north"
        assert response.headers["x-raymart-attempts"] == "1"
        *chunks, done = events_of(response.text)
        assert done == "[DONE]"
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert {chunk["id"] for chunk in chunks} == {
            "chatcmpl-" + response.headers["x-request-id"].removeprefix("req_")
        }
        assert {chunk["system_fingerprint"] for chunk in chunks} == {"fp_abababababab"}
        assert {chunk["provider"] for chunk in chunks} == {"north"}
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas == [
            {"role": "assistant", "content": "", "refusal": None}, {"content": "tok "}, {"content": "tok "}, {},
        ]  # fmt: skip
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
        assert all("usage" not in chunk for chunk in chunks)

    async def test_usage_comes_last_when_asked_for(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        response = await market.chat(stream=True, max_tokens=2, stream_options={"include_usage": True})
        *chunks, usage, done = events_of(response.text)
        assert done == "[DONE]"
        assert all(chunk["usage"] is None for chunk in chunks)
        assert usage["choices"] == []
        assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (3, 2)
        assert usage["usage"]["cost"] == "0.000000016"
        await market.settle()
        assert await market.usage() == [(3, 2, 16)]

    async def test_any_text_survives(self, market):
        await market.books.fund(1_000_000)
        texts = ['"quoted"\n', "\\", "é☃🦀", "\u2028\x00\x1f", "</script>", "data: [DONE]\n\n"]

        async def script(exchange):
            exchange.prompt()
            for text in texts:
                exchange.step(text)
            exchange.step("", ids=(1, 2))
            exchange.finish(FinishReason.STOP)

        (await market.add_endpoint()).script = script
        response = await market.chat(stream=True, max_tokens=20)
        *chunks, _ = events_of(response.text)
        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", *texts, None]
        await market.settle()
        assert [row[1] for row in await market.usage()] == [8]

    async def test_log_probabilities_ride_in_their_chunk(self, market):
        await market.books.fund(1_000_000)

        async def script(exchange):
            exchange.prompt()
            exchange.step("", lp=(TokenLogprob(token="?", logprob=-1.0),))
            exchange.finish(FinishReason.STOP)

        (await market.add_endpoint()).script = script
        response = await market.chat(stream=True, logprobs=True)
        chunk = events_of(response.text)[1]["choices"][0]
        assert chunk["logprobs"]["content"][0]["token"] == "?"
        assert chunk["delta"] == {"content": ""}

    async def test_no_token_at_all_is_a_whole_stream(self, market):
        await market.books.fund(1_000_000)

        async def silent(exchange):
            exchange.prompt()
            exchange.finish(FinishReason.STOP)

        (await market.add_endpoint()).script = silent
        *chunks, done = events_of((await market.chat(stream=True)).text)
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]
        assert done == "[DONE]"


class TestConnections:
    async def test_a_stream_gives_its_upstream_connection_back(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        for stream in (True, False, True):
            assert (await market.chat(stream=stream)).status_code == 200
        assert replica.connections == 1

    @pytest.mark.parametrize("pieces", [1, 7])
    async def test_events_cut_anywhere_by_the_network_are_whole(self, market, pieces):
        await market.books.fund(1_000_000)

        class Dripping:
            def __init__(self, transport):
                self.transport = transport

            def write(self, data):
                for start in range(0, len(data), pieces):
                    self.transport.write(data[start : start + pieces])

        async def script(exchange):
            exchange.transport = Dripping(exchange.transport)
            await answer(exchange)

        (await market.add_endpoint()).script = script
        assert (await market.chat()).json()["choices"][0]["message"]["content"] == "tok " * 4
