"""Money on every path: clients that leave, records that fail, and more requests than the balance covers."""

import asyncio
import dataclasses

import httpx
import pytest
from marketplace.gateway.test_chat_route import events_of

from raymart_core.errors import DeadlineExceeded, Unavailable
from raymart_core.ports import Prices
from raymart_core.wire.replica import ChatMessage
from raymart_marketplace.gateway.events import Delta, Finished, Started
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.metering.models import Surface
from support.scripted_replica import answer


async def endless(exchange):
    exchange.prompt()
    while not exchange.gone.is_set():
        exchange.step()
        await asyncio.sleep(0.005)


class SlowHolds:
    """A real gate that is asked late, as with a loaded database before it."""

    def __init__(self, gate):
        self.gate = gate
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def hold(self, **arguments):
        self.entered.set()
        await self.go_on.wait()
        return await self.gate.hold(**arguments)

    async def release(self, **arguments):
        await self.gate.release(**arguments)


class SlowRecords:
    """A real sink that takes its time."""

    def __init__(self, sink):
        self.sink = sink
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    def watch(self, running):
        pass

    async def record(self, request):
        self.entered.set()
        await self.go_on.wait()
        await self.sink.record(request)


class NoRecords:
    """A sink whose database is away."""

    def watch(self, running):
        pass

    async def record(self, request):
        raise Unavailable("the database is away")


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def leave(asking: asyncio.Task) -> None:
    """Close the connection of a request that is under way."""
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def request_of(market, *, max_tokens=4) -> ChatRequest:
    return ChatRequest(
        model=market.slug,
        messages=(ChatMessage(role="user", content="hi"),),
        sampling=Sampling(max_tokens=max_tokens),
    )


def run(market, inference=None, *, streamed=True, max_tokens=4):
    return (inference or market.inference).run(
        market.caller, request_of(market, max_tokens=max_tokens), surface=Surface.GRAPHQL, streamed=streamed
    )


class TestClientLeaves:
    async def test_a_dropped_stream_stops_the_engine_within_a_second_and_bills_what_was_delivered(
        self, market
    ):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.script = endless
        async with market.client.stream(
            "POST", "/v1/chat/completions", json=market.body(stream=True, max_tokens=1000)
        ) as response:
            received = 0
            async for chunk in response.aiter_text():
                received += chunk.count("tok ")
                if received >= 5:
                    break
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        async with asyncio.timeout(30):
            while not await market.usage():
                await asyncio.sleep(0.01)
        await market.settle()
        [(tokens_prompt, tokens_completion, cost)] = await market.usage()
        assert tokens_prompt == 3
        # At 5 ms a token: a second on the replica's own clock, however busy the machine is.
        assert received <= tokens_completion <= received + 200
        assert await market.balance() == (1_000_000 - cost, 0)
        [(_, state, finish, _)] = await market.requests()
        assert (state, finish) == ("cancelled", "abort")
        [attempt] = await market.attempts()
        assert attempt == ("cancelled", "customer", "the client left", tokens_completion)
        assert market.directory.failures == []
        assert set(market.directory.running.values()) == {0}

    async def test_leaving_before_the_first_token_costs_nothing(self, market):
        await market.books.fund(1_000_000)

        async def silent(exchange):
            exchange.prompt()
            await exchange.gone.wait()

        replica = await market.add_endpoint()
        replica.script = silent
        asking = asyncio.create_task(market.chat(stream=True))
        await until(lambda: replica.exchanges)
        await leave(asking)
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        async with asyncio.timeout(30):
            while not await market.requests():
                await asyncio.sleep(0.01)
        await market.wait_for_no_hold()
        assert await market.balance() == (1_000_000, 0)
        assert await market.usage() == []

    async def test_leaving_a_whole_answer_stops_the_engine_and_bills_what_was_made(self, market):
        """Otherwise anyone could have work done for nothing."""
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.script = endless
        asking = asyncio.create_task(market.chat(max_tokens=1000))
        await until(lambda: replica.exchanges and replica.exchanges[0].tokens > 5)
        await leave(asking)
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        async with asyncio.timeout(30):
            while not await market.usage():
                await asyncio.sleep(0.01)
        await market.settle()
        assert (await market.usage())[0][1] > 0
        assert (await market.balance())[1] == 0

    async def test_a_client_that_does_not_read_slows_the_replica_instead_of_filling_memory(self, market):
        await market.books.fund(100_000_000)
        held_back = asyncio.Event()

        async def flood(exchange):
            exchange.prompt()
            for _ in range(200_000):
                exchange.step("x" * 400)
                if exchange.transport.get_write_buffer_size() > 4_000_000:
                    held_back.set()
                    break
                await asyncio.sleep(0)
            await exchange.gone.wait()

        replica = await market.add_endpoint(context_length=1_000_000)
        replica.script = flood
        async with market.client.stream(
            "POST", "/v1/chat/completions", json=market.body(stream=True, max_tokens=900_000)
        ):
            async with asyncio.timeout(30):
                await held_back.wait()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.inference.drain(timeout_s=30)


class TestClosedGenerator:
    """The same through `Inference` itself, at exact moments."""

    async def test_closing_after_some_deltas_bills_those(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.script = endless
        events = run(market, max_tokens=500)
        assert isinstance(await anext(events), Started)
        for _ in range(3):
            assert isinstance(await anext(events), Delta)
        await events.aclose()
        assert replica.exchanges[0].gone.is_set() or await asyncio.wait_for(
            replica.exchanges[0].gone.wait(), 1
        )
        await market.settle()
        assert await market.usage() == [(3, 3, 21)]
        assert (await market.balance())[1] == 0

    async def test_closing_at_the_very_end_is_billed_once(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        events = run(market)
        async for event in events:
            if isinstance(event, Finished):
                break
        await events.aclose()
        await market.settle()
        assert await market.usage() == [(3, 4, 26)]
        assert [row[1] for row in await market.requests()] == ["completed"]

    async def test_cancelling_while_the_record_is_written_is_billed_once_as_completed(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        sink = SlowRecords(market.usage_sink)
        inference = market.make_inference(usage_sink=sink)

        async def consume():
            return [event async for event in run(market, inference)]

        task = asyncio.create_task(consume())
        await sink.entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        sink.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await inference.drain(timeout_s=30)
        await market.settle()
        assert await market.usage() == [(3, 4, 26)]
        assert [row[1] for row in await market.requests()] == ["completed"]
        assert await market.balance() == (1_000_000 - 26, 0)

    async def test_cancelling_twice_does_not_lose_the_bill(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        sink = SlowRecords(market.usage_sink)
        inference = market.make_inference(usage_sink=sink)

        async def consume():
            return [event async for event in run(market, inference)]

        task = asyncio.create_task(consume())
        await sink.entered.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        sink.go_on.set()
        await inference.drain(timeout_s=30)
        await market.settle()
        assert await market.usage() == [(3, 4, 26)]

    async def test_cancelling_while_the_hold_is_on_its_way_leaves_no_hold(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        gate = SlowHolds(market.hold_gate)
        inference = market.make_inference(hold_gate=gate)
        events = run(market, inference)
        task = asyncio.ensure_future(anext(events))
        await gate.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        gate.go_on.set()
        await inference.drain(timeout_s=30)
        assert await market.balance() == (1_000_000, 0)
        assert replica.exchanges == []
        assert await market.requests() == []

    async def test_a_hold_that_never_answers_ends_at_the_deadline(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        gate = SlowHolds(market.hold_gate)
        limits = dataclasses.replace(market.limits, request_deadline_s=0.05)
        inference = market.make_inference(hold_gate=gate, limits=limits)
        with pytest.raises(DeadlineExceeded):
            await anext(run(market, inference))
        await asyncio.sleep(0.05)
        gate.go_on.set()
        await inference.drain(timeout_s=30)
        assert await market.balance() == (1_000_000, 0)

    async def test_a_bug_while_streaming_bills_what_was_delivered_and_stops_the_engine(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        replica.script = endless
        events = run(market, max_tokens=500)
        await anext(events)
        await anext(events)
        with pytest.raises(ZeroDivisionError):
            await events.athrow(ZeroDivisionError())
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.settle()
        assert await market.usage() == [(3, 1, 11)]
        assert [row[1:] for row in await market.requests()] == [("failed", "error", "internal_error")]
        assert [row[1] for row in await market.attempts()] == ["platform"]

    @pytest.mark.parametrize("seed", range(20))
    async def test_cancelled_at_any_moment_the_books_agree(self, market, seed):
        """Twenty moments from before the hold to after the end: one bill or none, and never a hold left."""
        await market.books.fund(1_000_000)
        await market.add_endpoint()

        async def consume():
            return [event async for event in run(market, streamed=bool(seed % 2))]

        task = asyncio.create_task(consume())
        await asyncio.sleep(seed * 0.0007)
        task.cancel()
        finished = not isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
        await market.inference.drain(timeout_s=30)
        await market.settle()
        await market.wait_for_no_hold()
        usage = await market.usage()
        assert len(usage) <= 1
        assert not finished or usage == [(3, 4, 26)]
        assert (await market.balance())[0] == 1_000_000 - sum(row[2] for row in usage)
        assert set(market.directory.running.values()) == {0}


class TestRecord:
    async def test_no_record_no_final_byte(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        client = await market.serve(market.make_inference(usage_sink=NoRecords()))
        *chunks, last = events_of((await market.chat(client, stream=True)).text)
        assert last != "[DONE]"
        assert last["error"]["code"] == "service_unavailable"
        assert last["usage"]["cost"] == "0.000000000"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 5
        response = await market.chat(client)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "service_unavailable"

    async def test_the_final_byte_waits_for_the_record(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        sink = SlowRecords(market.usage_sink)
        client = await market.serve(market.make_inference(usage_sink=sink))
        async with client.stream("POST", "/v1/chat/completions", json=market.body(stream=True)) as response:
            chunks = response.aiter_text()
            text = ""
            while text.count("tok ") < 4:
                text += await anext(chunks)
            await sink.entered.wait()
            assert '"finish_reason":"length"' not in text
            assert await market.requests() == []
            sink.go_on.set()
            text += "".join([chunk async for chunk in chunks])
        assert text.endswith("data: [DONE]\n\n")
        assert [row[1] for row in await market.requests()] == ["completed"]


class TestMoreRequestsThanMoney:
    async def test_of_200_at_once_a_balance_for_50_serves_exactly_50(self, market):
        tokens, price = 4, 5
        prices = Prices(token_prompt=0, token_completion=price)
        await market.books.fund(50 * tokens * price)

        async def slow(exchange):
            await asyncio.sleep(0.05)  # All are in flight together.
            await answer(exchange)

        replicas = [await market.add_endpoint(prices=prices) for _ in range(2)]
        for replica in replicas:
            replica.script = slow
        # Patient, because this machine may be busy with other things: what is shown is the count, not the speed.
        patient = dataclasses.replace(
            market.limits, request_deadline_s=60, first_token_timeout_s=60, hold_ttl_s=90
        )
        served = await market.serve(market.make_inference(limits=patient))
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=served.base_url, headers=served.headers, timeout=90, limits=limits
        ) as client:
            responses = await asyncio.gather(
                *(market.chat(client, max_tokens=tokens, stream=number % 2 == 0) for number in range(200))
            )
        statuses = [response.status_code for response in responses]
        assert (statuses.count(200), statuses.count(402)) == (50, 150)
        assert sum(len(replica.exchanges) for replica in replicas) == 50
        await market.settle()
        assert await market.balance() == (0, 0)
        assert await market.usage() == [(3, tokens, tokens * price)] * 50
        assert len(await market.requests()) == 50
