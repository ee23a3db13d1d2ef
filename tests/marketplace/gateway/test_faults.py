"""Providers that fail: who pays, who is told what, and what is retried."""

import asyncio
import dataclasses
import time

import pytest
from marketplace.gateway.test_chat_route import events_of

from raymart_core.ports import Prices
from raymart_core.units import Fault, FinishReason
from support.scripted_replica import REVISION, answer

CHEAP = Prices(token_prompt=1, token_completion=1)


async def dies_first(exchange):
    exchange.cut()


async def dies_after_head(exchange):
    exchange.head()
    await asyncio.sleep(0.01)
    exchange.cut()


async def dies_after_prompt(exchange):
    exchange.prompt()
    await asyncio.sleep(0.01)
    exchange.cut()


async def fails_first(exchange):
    exchange.refuse(500, "out of memory", Fault.PROVIDER)


async def reports_first(exchange):
    exchange.prompt()
    exchange.fail("cannot", Fault.CUSTOMER)


async def ends_early(exchange):
    exchange.prompt()
    exchange.end()


async def gives_up(exchange):
    exchange.prompt()
    exchange.finish(FinishReason.ABORT)


async def refuses_secret(exchange):
    exchange.raw(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")


class TestBeforeTheFirstToken:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        "script",
        [
            dies_first, dies_after_head, dies_after_prompt, fails_first, reports_first, ends_early, gives_up,
            refuses_secret,
        ],
    )  # fmt: skip
    async def test_the_request_succeeds_elsewhere(self, market, script, stream):
        await market.books.fund(1_000_000)
        broken = await market.add_endpoint(provider="broken", prices=CHEAP)
        broken.script = script
        await market.add_endpoint(provider="sound")
        response = await market.chat(stream=stream)
        assert response.status_code == 200, response.text
        assert len(broken.exchanges) == 1
        assert response.headers["x-raymart-provider"] == "sound"
        assert response.headers["x-raymart-attempts"] == "2"
        assert response.text.count("tok ") == 4
        await market.settle()
        assert await market.usage() == [(3, 4, 26)]
        [first, second] = await market.attempts()
        assert (first[0], first[1], first[3]) == ("failed", "provider", 0)
        assert first[2]
        assert second == ("delivered", "none", "", 4)
        assert [endpoint for endpoint, _ in market.directory.failures] == [
            next(iter(market.directory.endpoints))
        ]
        assert set(market.directory.running.values()) == {0}

    async def test_an_endpoint_is_tried_once_and_only_so_many(self, market):
        await market.books.fund(1_000_000)
        replicas = [await market.add_endpoint() for _ in range(4)]
        for replica in replicas:
            replica.script = dies_first
        response = await market.chat()
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_failed"
        assert sorted(len(replica.exchanges) for replica in replicas) == [0, 1, 1, 1]
        [(_, state, finish, code)] = await market.requests()
        assert (state, finish, code) == ("failed", None, "upstream_failed")
        assert len(await market.attempts()) == 3
        await market.wait_for_no_hold()
        assert await market.balance() == (1_000_000, 0)

    async def test_a_silent_endpoint_is_left_after_the_first_token_timeout(self, market):
        await market.books.fund(1_000_000)

        async def silent(exchange):
            exchange.prompt()
            await exchange.gone.wait()

        slow = await market.add_endpoint(provider="slow", prices=CHEAP)
        slow.script = silent
        await market.add_endpoint(provider="sound")
        market.limits = dataclasses.replace(market.limits, first_token_timeout_s=1.0)
        client = await market.serve(market.make_inference(limits=market.limits))
        response = await market.chat(client)
        assert response.headers["x-raymart-provider"] == "sound"
        async with asyncio.timeout(30):
            await slow.exchanges[0].gone.wait()
        [first, _] = await market.attempts()
        assert first == ("failed", "provider", "no token within 1 s", 0)

    async def test_an_endpoint_that_left_meanwhile_is_passed_over(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="left", prices=CHEAP)
        await market.add_endpoint(provider="sound")
        left = next(iter(market.directory.endpoints))
        acquire = market.directory.acquire
        market.directory.acquire = lambda endpoint_id: None if endpoint_id == left else acquire(endpoint_id)
        response = await market.chat()
        assert response.headers["x-raymart-provider"] == "sound"
        assert response.headers["x-raymart-attempts"] == "1"

    async def test_the_deadline_ends_a_request_that_nobody_answers(self, market):
        await market.books.fund(1_000_000)

        async def silent(exchange):
            await exchange.gone.wait()

        (await market.add_endpoint()).script = silent
        limits = dataclasses.replace(market.limits, request_deadline_s=1.0)
        client = await market.serve(market.make_inference(limits=limits))
        started = time.monotonic()
        response = await market.chat(client)
        assert time.monotonic() - started < 30, "the deadline, not the first token's timeout, ends the wait"
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert await market.attempts() == [("failed", "none", "deadline", 0)]
        assert market.directory.failures == []
        await market.wait_for_no_hold()


def after_two(fault):
    async def script(exchange):
        exchange.prompt()
        exchange.step()
        exchange.step()
        await asyncio.sleep(0.02)
        await fault(exchange)

    return script


async def cut(exchange):
    exchange.cut()


async def report(exchange):
    exchange.fail("GPU\nlost")


async def end(exchange):
    exchange.end()


async def overcount(exchange):
    exchange.step(n=40)


async def overcount_with_finish(exchange):
    exchange.step(n=40)
    exchange.finish()


async def repeat(exchange):
    exchange.step(i=0)


async def odd_id(exchange):
    exchange.step(ids=(2**40,))


async def too_many(exchange):
    exchange.step(ids=(1,) * 99)


async def garbage(exchange):
    exchange.line(b"garbage")


async def other_revision(exchange):
    exchange.finish(revision=REVISION.replace("ab", "cd"))


async def prompt_again(exchange):
    exchange.line(b'{"e":"p","ids":[1]}')


BREAKS = [
    cut,
    report,
    end,
    overcount,
    overcount_with_finish,
    repeat,
    odd_id,
    too_many,
    garbage,
    other_revision,
    prompt_again,
]


class TestAfterTheFirstToken:
    @pytest.mark.parametrize("fault", BREAKS)
    async def test_a_stream_that_nobody_can_take_up_ends_in_an_error_event_and_bills_what_was_delivered(
        self, market, fault
    ):
        await market.books.fund(1_000_000)
        broken = await market.add_endpoint(
            provider="broken", prices=Prices(token_prompt=2, token_completion=4)
        )
        broken.script = after_two(fault)
        response = await market.chat(stream=True, max_tokens=50)
        assert response.status_code == 200
        *chunks, last = events_of(response.text)
        assert last != "[DONE]"
        assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "tok tok "
        assert last["error"]["code"] == "upstream_failed"
        assert last["choices"][0]["finish_reason"] == "error"
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (3, 2)
        assert last["usage"]["cost"] == "0.000000014"
        await market.settle()
        assert await market.usage() == [(3, 2, 14)]
        assert await market.balance() == (1_000_000 - 14, 0)
        [attempt] = await market.attempts()
        assert (attempt[0], attempt[1], attempt[3]) == ("failed", "provider", 2)
        [(_, state, finish, code)] = await market.requests()
        assert (state, finish, code) == ("failed", "error", "upstream_failed")
        assert len(market.directory.failures) == 1

    @pytest.mark.parametrize("fault", BREAKS)
    async def test_a_stream_goes_on_elsewhere(self, market, fault):
        await market.books.fund(1_000_000)
        (await market.add_endpoint(provider="broken", prices=CHEAP)).script = after_two(fault)
        await market.add_endpoint(provider="sound", prices=CHEAP)
        *chunks, done = events_of((await market.chat(stream=True, max_tokens=50)).text)
        assert done == "[DONE]"
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "tok " * 50
        assert [row[0] for row in await market.attempts()] == ["failed", "delivered"]
        assert len(market.directory.failures) == 1

    @pytest.mark.parametrize("fault", BREAKS)
    async def test_a_whole_answer_comes_from_elsewhere_and_the_failed_work_is_free(self, market, fault):
        await market.books.fund(1_000_000)
        (await market.add_endpoint(provider="broken", prices=CHEAP)).script = after_two(fault)
        await market.add_endpoint(provider="sound")
        response = await market.chat(max_tokens=50)
        assert response.status_code == 200
        assert response.json()["choices"][0]["message"]["content"] == "tok " * 50
        await market.settle()
        assert await market.usage() == [(3, 50, 256)]
        assert [row[0] for row in await market.attempts()] == ["failed", "delivered"]

    async def test_a_whole_answer_that_nobody_else_can_give_is_502_and_free(self, market):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = after_two(cut)
        response = await market.chat()
        assert response.status_code == 502
        await market.wait_for_no_hold()
        assert await market.balance() == (1_000_000, 0)
        assert await market.usage() == []

    async def test_a_stall_ends_the_stream_and_the_work(self, market):
        await market.books.fund(1_000_000)

        async def stalls(exchange):
            exchange.prompt()
            exchange.step()
            await exchange.gone.wait()

        replica = await market.add_endpoint()
        replica.script = stalls
        limits = dataclasses.replace(market.limits, stall_timeout_s=0.2)
        client = await market.serve(market.make_inference(limits=limits))
        started = time.monotonic()
        last = events_of((await market.chat(client, stream=True)).text)[-1]
        assert time.monotonic() - started < 30
        assert "stalled for 0.2 s" in last["error"]["message"]
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.settle()
        assert [row[1] for row in await market.usage()] == [1]

    async def test_slow_but_steady_is_no_stall(self, market):
        await market.books.fund(1_000_000)

        async def steady(exchange):
            exchange.prompt()
            for _ in range(10):
                await asyncio.sleep(0.2)
                exchange.step()
            exchange.finish()

        (await market.add_endpoint()).script = steady
        limits = dataclasses.replace(market.limits, first_token_timeout_s=1.5, stall_timeout_s=1.5)
        client = await market.serve(market.make_inference(limits=limits))
        assert events_of((await market.chat(client, stream=True, max_tokens=10)).text)[-1] == "[DONE]"

    async def test_the_deadline_ends_an_endless_stream_and_bills_it(self, market):
        await market.books.fund(1_000_000)

        async def endless(exchange):
            exchange.prompt()
            while not exchange.gone.is_set():
                exchange.step()
                await asyncio.sleep(0.01)

        replica = await market.add_endpoint()
        replica.script = endless
        limits = dataclasses.replace(market.limits, request_deadline_s=1.5)
        client = await market.serve(market.make_inference(limits=limits))
        last = events_of((await market.chat(client, stream=True, max_tokens=1000)).text)[-1]
        assert last["error"]["code"] == "deadline_exceeded"
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.settle()
        [(_, tokens, _)] = await market.usage()
        assert tokens == last["usage"]["completion_tokens"] > 3

    async def test_one_bad_replica_does_not_disturb_the_streams_beside_it(self, market):
        await market.books.fund(10_000_000)
        replica = await market.add_endpoint()
        replica.scripts = [after_two(cut) if number % 2 else answer for number in range(20)]
        responses = await asyncio.gather(*(market.chat(stream=True) for _ in range(20)))
        whole = sum(response.text.endswith("[DONE]\n\n") for response in responses)
        assert whole == 10
        await market.settle()
        assert sorted(row[1] for row in await market.usage()) == [2] * 10 + [4] * 10
