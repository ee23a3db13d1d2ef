"""Endpoints that die in mid-stream: the text is whole, and everybody is paid for their part of it."""

import asyncio
import dataclasses
import itertools

import pytest
from marketplace.gateway.test_chat_route import events_of

from raymart_core.ports import Prices
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import StepEvent, ToolDelta, encode

CHEAP = Prices(token_prompt=1, token_completion=1)
PIECES = (
    ((1,), "A "), ((2, 3), "naïve "), ((4, 5, 6, 7), "😀"), ((8,), " says "), ((9, 10, 11), "你"), ((12, 13), "好"),
    ((14,), "."),
)  # fmt: skip
"""What the model answers: ids, and the text that they complete. No character is cut, as engines promise."""
TEXT = "".join(text for _, text in PIECES)
IDS = tuple(token for ids, _ in PIECES for token in ids)


def rest_of(resumed: tuple[int, ...]) -> list[tuple[tuple[int, ...], str]]:
    """The pieces after `resumed`, which ends where a piece does."""
    assert resumed == IDS[: len(resumed)], f"{resumed} was never delivered"
    ends = list(itertools.accumulate((len(ids) for ids, _ in PIECES), initial=0))
    return list(PIECES[ends.index(len(resumed)) :])


async def speak(exchange):
    """The honest model: greedy, so that it goes on as it would have."""
    exchange.prompt()
    for ids, text in rest_of(exchange.request.resume_ids):
        exchange.step(text, ids)
    exchange.finish(FinishReason.STOP)


def speak_until(pieces, *, then=lambda exchange: exchange.cut()):
    """The same, broken off after so many pieces."""

    async def script(exchange):
        exchange.prompt()
        for ids, text in rest_of(exchange.request.resume_ids)[:pieces]:
            exchange.step(text, ids)
        await asyncio.sleep(0.01)
        then(exchange)

    return script


def text_of(response) -> str:
    chunks = [event for event in events_of(response.text) if isinstance(event, dict)]
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"][:1]
    )


def comments_of(response) -> list[str]:
    return [line for line in response.text.split("\n") if line.startswith(":")]


async def ask(market, client=None, **changes):
    return await market.chat(client, **{"stream": True, "max_tokens": 50, "temperature": 0, **changes})


@pytest.fixture
async def funded(market):
    await market.books.fund(10_000_000)
    return market


class TestTheText:
    @pytest.mark.parametrize("pieces", range(1, len(PIECES) + 1))
    async def test_it_is_whole_wherever_the_endpoint_dies(self, funded, pieces):
        lost = await funded.add_endpoint(provider="lost", prices=CHEAP)
        lost.script = speak_until(pieces)
        other = await funded.add_endpoint(provider="other")
        other.script = speak
        response = await ask(funded)
        assert text_of(response) == TEXT
        assert events_of(response.text)[-1] == "[DONE]"
        delivered = sum(len(ids) for ids, _ in PIECES[:pieces])
        [asked] = [exchange.request for exchange in other.exchanges]
        assert asked.resume_ids == IDS[:delivered]
        assert asked.sampling.max_tokens == 50 - delivered
        assert asked.messages == lost.exchanges[0].request.messages

    async def test_it_is_whole_wherever_the_bytes_end(self, funded):
        """Cut at every byte of a line, in the middle of a character's too: what is no whole line was never delivered."""
        line = encode(StepEvent(i=1, t=PIECES[2][0], n=7, d=PIECES[2][1])) + b"\n"
        lost = await funded.add_endpoint(provider="lost", prices=CHEAP)
        (await funded.add_endpoint(provider="other")).script = speak

        def cut_at(position):
            async def script(exchange):
                exchange.prompt()
                ids = PIECES[0][0] + PIECES[1][0]
                exchange.step(PIECES[0][1] + PIECES[1][1], ids)
                exchange.raw(b"%x\r\n%b" % (len(line), line[:position]))
                await asyncio.sleep(0)
                exchange.cut()

            return script

        lost.scripts = [cut_at(position) for position in range(0, len(line), 3)]
        responses = [await ask(funded) for _ in range(len(lost.scripts))]
        assert {text_of(response) for response in responses} == {TEXT}

    async def test_it_survives_several_endpoints(self, funded):
        """In the order of their ids, as their prices are alike."""
        for _ in range(3):
            (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint(provider="last", prices=CHEAP)).script = speak
        response = await ask(funded)
        assert text_of(response) == TEXT
        finish = events_of(response.text)[-2]
        assert [one["position"] for one in finish["failover"]["resumed"]] == [3, 8, 13]
        assert finish["failover"]["attempts"] == 4

    async def test_an_endpoint_that_dies_before_its_good_end_alone_needs_nobody(self, funded):
        lost = await funded.add_endpoint(prices=CHEAP)
        lost.script = speak_until(len(PIECES))
        other = await funded.add_endpoint()
        response = await ask(funded, max_tokens=len(IDS))
        assert text_of(response) == TEXT
        assert events_of(response.text)[-2]["choices"][0]["finish_reason"] == "length"
        assert other.exchanges == []
        await funded.settle()
        [(_, state, finish, code)] = await funded.requests()
        assert (state, finish, code) == ("completed", "length", None)

    async def test_a_step_that_says_that_it_is_the_last_needs_no_good_end(self, funded):
        """A stop string may have cut its text: who went on from its ids would not find the stop string again."""

        async def stops(exchange):
            exchange.prompt()
            exchange.step("A ", (1,))
            exchange.step("na", (2, 3), f=FinishReason.STOP)
            await asyncio.sleep(0.01)
            exchange.cut()

        (await funded.add_endpoint(prices=CHEAP)).script = stops
        other = await funded.add_endpoint()
        response = await ask(funded, stop=["ïve"])
        assert text_of(response) == "A na"
        assert events_of(response.text)[-2]["choices"][0]["finish_reason"] == "stop"
        assert other.exchanges == []

    async def test_tool_calls_go_on_in_their_middle(self, funded):
        async def begins(exchange):
            exchange.prompt()
            exchange.step("", (1,), tool=(ToolDelta(index=0, id="call-1", name="get_weather"),))
            exchange.step("", (2,), tool=(ToolDelta(index=0, arguments='{"city": '),))
            await asyncio.sleep(0.01)
            exchange.cut()

        async def goes_on(exchange):
            assert exchange.request.resume_ids == (1, 2)
            exchange.prompt()
            exchange.step("", (3,), tool=(ToolDelta(index=0, arguments='"Oslo"}'),))
            exchange.step(
                "", (4,), tool=(ToolDelta(index=1, id="call-2", name="get_weather", arguments="{}"),)
            )
            exchange.finish(FinishReason.STOP)

        (await funded.add_endpoint(prices=CHEAP)).script = begins
        (await funded.add_endpoint()).script = goes_on
        tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
        chunks = [event for event in events_of((await ask(funded, tools=[tool])).text) if event != "[DONE]"]
        pieces = [piece for one in chunks for piece in one["choices"][0]["delta"].get("tool_calls", [])]
        arguments = "".join(
            piece["function"].get("arguments") or "" for piece in pieces if not piece["index"]
        )
        assert arguments == '{"city": "Oslo"}'
        assert [piece["id"] for piece in pieces if piece.get("id")] == ["call-1", "call-2"]


class TestWhatIsSaid:
    async def test_chunks_name_who_serves_and_the_last_one_where_it_was_taken_up(self, funded):
        (await funded.add_endpoint(provider="lost", prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint(provider="other")).script = speak
        response = await ask(funded)
        chunks = [event for event in events_of(response.text) if isinstance(event, dict)]
        assert [chunk["provider"] for chunk in chunks] == ["lost"] * 3 + ["other"] * 6
        assert chunks[-1]["failover"] == {
            "attempts": 2,
            "resumed": [{"position": 3, "provider": "other", "seed": None}],
        }
        assert not any("failover" in chunk for chunk in chunks[:-1])

    async def test_a_stream_that_never_broke_says_nothing_of_it(self, funded):
        (await funded.add_endpoint()).script = speak
        assert "failover" not in (await ask(funded)).text

    async def test_what_is_sampled_goes_on_with_the_customers_seed_or_one_that_is_drawn(self, funded):
        lost = await funded.add_endpoint(prices=CHEAP)
        lost.script = speak_until(2)
        other = await funded.add_endpoint(provider="other")
        other.script = speak
        for given in (77, None):
            finish = events_of((await ask(funded, temperature=0.7, seed=given)).text)[-2]
            first, then = lost.exchanges[-1].request.sampling, other.exchanges[-1].request.sampling
            assert first.seed == given, "a seed from the start would keep engines from their caches"
            assert (then.temperature, then.top_p) == (first.temperature, first.top_p)
            said = finish["failover"]["resumed"][0]["seed"]
            assert said == then.seed == (given or said)
            assert then.seed is not None

    async def test_who_waits_gets_comments(self, funded, monkeypatch):
        monkeypatch.setattr("raymart_marketplace.gateway.failover.KEEPALIVE_S", 0.02)

        async def slow(exchange):
            await asyncio.sleep(0.1)
            await speak(exchange)

        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint()).script = slow
        response = await ask(funded)
        assert set(comments_of(response)) == {": RAYMART PROCESSING"}
        lines = "\n\n".join(line for line in response.text.split("\n\n") if not line.startswith(":"))
        assert lines.count('"content"') == len(PIECES) + 1


class TestTheBill:
    async def test_each_is_paid_for_its_part_and_the_prompt_once(self, funded):
        (await funded.add_endpoint(prices=Prices(token_prompt=2, token_completion=3))).script = speak_until(2)
        (await funded.add_endpoint(prices=Prices(token_prompt=50, token_completion=4))).script = speak
        response = await ask(funded, stream_options={"include_usage": True})
        usage = events_of(response.text)[-2]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, len(IDS))
        assert usage["cost"] == f"0.0000000{3 * 2 + 3 * 3 + (len(IDS) - 3) * 4}"
        await funded.settle()
        assert sorted(await funded.usage()) == [(0, len(IDS) - 3, (len(IDS) - 3) * 4), (3, 3, 3 * 2 + 3 * 3)]
        assert [(one[0], one[1], one[3]) for one in await funded.attempts()] == [
            ("failed", "provider", 3),
            ("delivered", "none", len(IDS) - 3),
        ]
        [(_, state, finish, code)] = await funded.requests()
        assert (state, finish, code) == ("completed", "stop", None)
        await funded.wait_for_no_hold()
        assert await funded.balance() == (10_000_000 - (6 + 9 + (len(IDS) - 3) * 4), 0)

    async def test_it_is_never_dearer_than_what_is_held(self, funded):
        """The dear one comes up only when the answer has begun; nothing is held for its price."""
        dear = await funded.add_endpoint(provider="dear", prices=Prices(token_prompt=1, token_completion=9))
        [(number, kept)] = funded.directory.endpoints.items()

        async def script(exchange):
            funded.directory.endpoints[number] = kept
            await speak_until(2)(exchange)

        del funded.directory.endpoints[number]
        (await funded.add_endpoint(provider="lost", prices=CHEAP)).script = script
        last = events_of((await ask(funded)).text)[-1]
        assert last["error"]["code"] == "upstream_failed"
        assert dear.exchanges == []

    async def test_a_client_that_leaves_in_the_gap_pays_for_what_it_got(self, funded):
        asked = asyncio.Event()

        async def silent(exchange):
            asked.set()
            await exchange.gone.wait()

        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        waiting = await funded.add_endpoint()
        waiting.script = silent
        body = funded.body(stream=True, max_tokens=50, temperature=0)
        async with funded.client.stream("POST", "/v1/chat/completions", json=body) as response:
            async with asyncio.timeout(30):
                lines = response.aiter_lines()
                await anext(lines)
                await asked.wait()
        async with asyncio.timeout(30):
            await waiting.exchanges[0].gone.wait()
            while not await funded.requests():
                await asyncio.sleep(0.01)
        await funded.settle()
        assert await funded.usage() == [(3, 3, 6)]
        [(_, state, finish, _)] = await funded.requests()
        assert (state, finish) == ("cancelled", "abort")
        assert set(funded.directory.running.values()) == {0}

    async def test_a_gateway_that_dies_in_the_gap_bills_the_parts(self, funded):
        running = []
        asked = asyncio.Event()

        async def silent(exchange):
            asked.set()
            await exchange.gone.wait()

        watch = funded.usage_sink.watch
        funded.usage_sink.watch = lambda life: (running.append(life), watch(life))
        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint()).script = silent
        body = funded.body(stream=True, max_tokens=50, temperature=0)
        async with funded.client.stream("POST", "/v1/chat/completions", json=body):
            async with asyncio.timeout(30):
                await asked.wait()
            lost = running[0].if_lost()
        assert lost is not None
        assert [(part.quantities.token_prompt, part.quantities.token_completion) for part in lost.parts] == [
            (3, 3)
        ]
        assert [attempt.outcome for attempt in lost.attempts] == ["failed", "failed"]

    async def test_who_leaves_while_there_is_nobody_to_go_on_pays_for_what_came(self, funded):
        running = []
        watch = funded.usage_sink.watch
        funded.usage_sink.watch = lambda life: (running.append(life), watch(life))
        limits = dataclasses.replace(funded.limits, resume_wait_s=5.0)
        client = await funded.serve(funded.make_inference(limits=limits))

        async def leaves(exchange):
            funded.directory.endpoints.clear()
            await speak_until(2)(exchange)

        (await funded.add_endpoint(prices=CHEAP)).script = leaves
        body = funded.body(stream=True, max_tokens=50, temperature=0)
        async with client.stream("POST", "/v1/chat/completions", json=body):
            async with asyncio.timeout(30):
                while not (running and running[0].attempt is None):
                    await asyncio.sleep(0.01)
            lost = running[0].if_lost()
            assert lost is not None
            assert [part.quantities.token_completion for part in lost.parts] == [3]
        async with asyncio.timeout(30):
            while not await funded.requests():
                await asyncio.sleep(0.01)
        [(_, state, finish, _)] = await funded.requests()
        assert (state, finish) == ("cancelled", "abort")


class TestWhenItIsNotTakenUp:
    @pytest.mark.parametrize(
        "provider", [{"allow_resume": False}, {"only": ["lost"]}, {"allow_fallbacks": False}]
    )
    async def test_the_customers_wish_decides(self, funded, provider):
        (await funded.add_endpoint(provider="lost", prices=CHEAP)).script = speak_until(2)
        other = await funded.add_endpoint(provider="other")
        other.script = speak
        *_, last = events_of((await ask(funded, provider=provider)).text)
        assert last["error"]["code"] == "upstream_failed"
        assert last["choices"][0]["finish_reason"] == "error"
        assert last["usage"]["completion_tokens"] == 3
        assert other.exchanges == []

    async def test_not_without_exact_ids(self, funded):
        async def inexact(exchange):
            exchange.prompt()
            exchange.step("A ", (), n=1, exact=False)
            await asyncio.sleep(0.01)
            exchange.cut()

        (await funded.add_endpoint(prices=CHEAP)).script = inexact
        other = await funded.add_endpoint()
        *_, last = events_of((await ask(funded)).text)
        assert "not all of its token ids are known" in last["error"]["message"]
        assert other.exchanges == []

    async def test_another_revision_is_no_place_to_go_on(self, funded):
        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        other = await funded.add_endpoint(revision_digest="sha256:" + "cd" * 32)
        *_, last = events_of((await ask(funded)).text)
        assert "error" in last
        assert other.exchanges == []

    async def test_an_engine_that_cannot_take_up_a_format_says_so(self, funded):
        async def refuses(exchange):
            exchange.refuse(400, "begin it again", Fault.CUSTOMER, param="resume_ids")

        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint()).script = refuses
        *_, last = events_of((await ask(funded, response_format={"type": "json_object"})).text)
        assert "held to a format" in last["error"]["message"]
        assert last["choices"][0]["finish_reason"] == "error"
        await funded.settle()
        assert await funded.usage() == [(3, 3, 6)]

    async def test_another_prompt_is_not_gone_on_with_and_is_named(self, funded):
        async def liar(exchange):
            exchange.prompt((1, 2, 4))
            exchange.step("lies", (5,))

        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        (await funded.add_endpoint(provider="liar")).script = liar
        dearest = Prices(token_prompt=2, token_completion=6)
        (await funded.add_endpoint(provider="honest", prices=dearest)).script = speak
        response = await ask(funded)
        assert text_of(response) == TEXT
        await funded.settle()
        [_, lied, _] = await funded.attempts()
        assert lied[:2] == ("failed", "provider")
        assert "not the one of 3" in lied[2]
        assert lied[3] == 0

    async def test_only_so_many_are_asked(self, funded):
        async def dies(exchange):
            exchange.cut()

        (await funded.add_endpoint(prices=CHEAP)).script = speak_until(2)
        others = [await funded.add_endpoint() for _ in range(5)]
        for other in others:
            other.script = dies
        *_, last = events_of((await ask(funded)).text)
        assert last["error"]["code"] == "upstream_failed"
        assert sum(len(other.exchanges) for other in others) == funded.limits.attempts_max

    async def test_nobody_left_is_waited_for_as_long_as_is_set_and_then_an_error(self, funded):
        limits = dataclasses.replace(funded.limits, resume_wait_s=0.7)
        client = await funded.serve(funded.make_inference(limits=limits))
        lost = await funded.add_endpoint(prices=CHEAP)
        lost.scripts = [speak_until(2), speak]
        response = await ask(funded, client)
        assert text_of(response) == TEXT, "the endpoint itself was back in time"
        lost.script = speak_until(2)
        *_, last = events_of((await ask(funded, client)).text)
        assert last["error"]["code"] == "upstream_failed"
