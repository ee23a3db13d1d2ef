"""Several answers to one body: each a generation of its own, with its own bill, and one that fails takes none with it."""

import asyncio
import json

import pytest

from raymart_core.errors import InvalidRequest
from raymart_core.units import Fault
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.request import SEED_MAX, SEED_MIN
from support.scripted_replica import answer


def events_of(text: str) -> list[dict | str]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def parsed(**changes):
    return parse_chat(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}).encode()
    )


async def fail(exchange):
    exchange.refuse(400, "no", Fault.CUSTOMER, "messages")


async def begin_and_fail(exchange):
    exchange.prompt()
    exchange.step("half ")
    exchange.fail()


class TestUnary:
    async def test_each_choice_is_billed_as_one_request(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        response = await market.chat(n=3, max_tokens=2)
        body = response.json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert {choice["message"]["content"] for choice in body["choices"]} == {"tok tok "}
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (9, 6)
        assert body["usage"]["cost"] == response.headers["x-raymart-cost"] == "0.000000048"
        assert response.headers["x-raymart-attempts"] == "3"
        await market.settle()
        assert await market.usage() == [(3, 2, 16)] * 3
        ids = [f"req_{row[0].hex}" for row in await market.requests()]
        assert response.headers["x-request-id"] in ids

    async def test_a_choice_that_fails_says_so_in_its_place_and_costs_nothing(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.scripts = [fail]
        body = (await market.chat(n=2, max_tokens=2)).json()
        ends = sorted(choice["finish_reason"] for choice in body["choices"])
        assert ends == ["error", "length"]
        (failed,) = [choice for choice in body["choices"] if choice["finish_reason"] == "error"]
        assert failed["error"]["code"] == "invalid_request"
        assert body["usage"]["completion_tokens"] == 2
        await market.settle()
        assert await market.usage() == [(3, 2, 16)]

    async def test_when_all_fail_the_answer_is_the_first_ones_error(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = fail
        response = await market.chat(n=2)
        assert response.status_code == 400
        await market.wait_for_no_hold()

    async def test_a_client_that_leaves_stops_all_of_them(self, market):
        await market.books.fund(1_000_000)
        gone = asyncio.Event()

        async def hang(exchange):
            exchange.prompt()
            exchange.step()
            await exchange.gone.wait()
            if all(each.gone.is_set() for each in replica.exchanges):
                gone.set()

        replica = await market.add_endpoint()
        replica.script = hang
        asking = asyncio.create_task(market.chat(n=3))
        async with asyncio.timeout(30):
            while len(replica.exchanges) < 3:
                await asyncio.sleep(0.005)
            asking.cancel()
            await gone.wait()
        await market.wait_for_no_hold()


class TestStream:
    async def test_choices_have_one_id_and_their_own_indices(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        response = await market.chat(n=2, max_tokens=2, stream=True, stream_options={"include_usage": True})
        *chunks, usage, done = events_of(response.text)
        assert done == "[DONE]"
        assert {chunk["id"] for chunk in chunks} == {
            "chatcmpl-" + response.headers["x-request-id"].removeprefix("req_")
        }
        texts = {0: "", 1: ""}
        ends = {}
        for chunk in chunks:
            (choice,) = chunk["choices"]
            texts[choice["index"]] += choice["delta"].get("content", "")
            ends[choice["index"]] = choice["finish_reason"]
        assert texts == {0: "tok tok ", 1: "tok tok "}
        assert ends == {0: "length", 1: "length"}
        assert usage["usage"]["completion_tokens"] == 4
        await market.settle()
        assert await market.usage() == [(3, 2, 16)] * 2

    async def test_one_that_breaks_leaves_the_others_whole(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.scripts = [begin_and_fail, answer]
        response = await market.chat(n=2, max_tokens=2, stream=True)
        *chunks, done = events_of(response.text)
        assert done == "[DONE]"
        assert all("error" not in chunk for chunk in chunks)
        lasts = {chunk["choices"][0]["index"]: chunk["choices"][0] for chunk in chunks}
        assert sorted(last["finish_reason"] for last in lasts.values()) == ["error", "length"]
        await market.settle()
        assert sorted(await market.usage()) == [(3, 1, 11), (3, 2, 16)]

    async def test_one_that_never_begins_is_told_of_at_the_end(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.scripts = [fail, answer]
        *chunks, done = events_of((await market.chat(n=2, stream=True)).text)
        assert done == "[DONE]"
        assert chunks[-1]["choices"][0]["error"]["code"] == "invalid_request"

    async def test_when_none_begins_the_answer_is_an_error_with_a_status(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = fail
        assert (await market.chat(n=2, stream=True)).status_code == 400


class TestSeeds:
    def test_each_choice_has_the_seed_of_its_place(self):
        assert [each.sampling.seed for each in parsed(n=3, seed=5).choices] == [5, 6, 7]

    def test_seeds_go_around_at_64_bits(self):
        assert [each.sampling.seed for each in parsed(n=2, seed=SEED_MAX).choices] == [SEED_MAX, SEED_MIN]

    def test_without_a_seed_none_is_given(self):
        assert [each.sampling.seed for each in parsed(n=2).choices] == [None, None]


class TestModels:
    def test_the_model_comes_first_and_none_twice(self):
        asked = parsed(model="a", models=["b", "a", "c", "b"])
        assert [each.model for each in (asked.request, *asked.fallbacks)] == ["a", "b", "c"]

    def test_the_first_of_the_list_stands_in_for_the_model(self):
        asked = parsed(model=None, models=["b", "c"])
        assert [each.model for each in (asked.request, *asked.fallbacks)] == ["b", "c"]

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"model": None}, "model"),
            ({"model": None, "models": []}, "model"),
            ({"models": ["x"] * 9}, "models"),
            ({"models": ["x"], "n": 2}, "models"),
            ({"models": [""]}, "model"),
            ({"models": "x"}, "models"),
        ],
    )
    def test_what_cannot_be_served_is_refused_by_name(self, changes, param):
        with pytest.raises(InvalidRequest) as caught:
            parsed(**changes)
        assert caught.value.param == param
