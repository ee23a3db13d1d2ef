"""More is asked than can be done: some wait, some are told when to come again, and nothing is asked twice for it."""

import asyncio

import msgspec
import pytest

from raymart_core.units import Fault
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.retry_budget import RetryBudget
from raymart_marketplace.gateway.shedding.queue import QueueLimits
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from support.scripted_replica import ScriptedReplica, answer


class Gate:
    """A replica's script that answers once it is opened, and knows how many it has at once."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.at_once = 0
        self.most = 0
        self.came = asyncio.Event()

    async def __call__(self, exchange) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.came.set()
        await self.opened.wait()
        self.at_once -= 1
        await answer(exchange)


async def dies(exchange) -> None:
    exchange.cut()


async def is_full(exchange) -> None:
    exchange.refuse(503, "64 wait", Fault.PROVIDER)


@pytest.fixture
async def gate(market) -> Gate:
    """The market's only replica, with two slots."""
    gate = Gate()
    await market.books.fund(10**12)
    replica = await market.stack.enter_async_context(ScriptedReplica(gate))
    await market.add_endpoint(replica, capacity=2)
    return gate


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


class TestQueue:
    async def test_what_finds_no_slot_waits_and_is_served(self, market, gate):
        shedder = LoadShedder(market.directory)
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        asked = [asyncio.create_task(market.chat(client)) for _ in range(9)]
        await until(lambda: shedder.waiting(market.slug) == 6)
        await until(lambda: gate.at_once == 3)  # Two slots, and one to follow at once.
        gate.opened.set()
        assert [(await each).status_code for each in asked] == [200] * 9
        assert gate.most == 3
        assert (shedder.running(market.slug), shedder.waiting(market.slug)) == (0, 0)

    async def test_what_finds_no_place_is_refused_at_once_and_leaves_nothing(self, market, gate):
        shedder = LoadShedder(market.directory, limits=QueueLimits(waiting_min=2, waiting_per_slot=0))
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        asked = [asyncio.create_task(market.chat(client)) for _ in range(4)]
        await until(lambda: shedder.waiting(market.slug) == 1)
        refused = await market.chat(client)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "model_overloaded"
        gate.opened.set()
        await asyncio.gather(*asked)
        await market.settle()
        assert len(await market.requests()) == 4

    async def test_a_client_that_leaves_the_queue_makes_room(self, market, gate):
        shedder = LoadShedder(market.directory)
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        running = [asyncio.create_task(market.chat(client)) for _ in range(3)]
        await until(lambda: gate.at_once == 3)
        waiting = asyncio.create_task(market.chat(client))
        await until(lambda: shedder.waiting(market.slug) == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: shedder.waiting(market.slug) == 0)
        gate.opened.set()
        await asyncio.gather(*running)
        assert shedder.running(market.slug) == 0

    async def test_a_stream_holds_its_turn_to_its_end(self, market, gate):
        shedder = LoadShedder(market.directory)
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        asked = asyncio.create_task(market.chat(client, stream=True))
        await gate.came.wait()
        assert shedder.running(market.slug) == 1
        gate.opened.set()
        await asked
        await until(lambda: shedder.running(market.slug) == 0)

    async def test_a_model_that_nothing_serves_has_no_queue(self, market):
        shedder = LoadShedder(market.directory)
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        assert (await market.chat(client)).status_code == 503
        assert (await market.chat(client, model="no/such")).status_code == 404
        assert shedder.running(market.slug) == 0

    async def test_endpoints_that_rest_count_only_when_all_do(self, market):
        for quarantined in (True, False, True):
            await market.add_endpoint(capacity=4, quarantined=quarantined)
        shedder = LoadShedder(market.directory)
        organization = market.books.organization_id
        turns = [await shedder.enter(market.slug, organization, left_s=1) for _ in range(5)]
        assert all(turns)
        waiting = asyncio.create_task(shedder.enter(market.slug, organization, left_s=10))
        await until(lambda: shedder.waiting(market.slug) == 1)
        market.directory.endpoints = {
            key: msgspec.structs.replace(endpoint, quarantined=True)
            for key, endpoint in market.directory.endpoints.items()
        }
        # Nobody comes: the queue looks by itself.
        assert await waiting is not None


class TestRetries:
    async def test_a_budget_that_is_spent_ends_a_request_with_its_first_failure(self, market):
        await market.books.fund(10**9)
        for _ in range(3):
            replica = await market.stack.enter_async_context(ScriptedReplica(dies))
            await market.add_endpoint(replica)
        retries = RetryBudget(share=0.0, reserve_per_s=0.1)
        entrance = Entrance(shedder=LoadShedder(market.directory), retries=retries)
        client = await market.serve(market.make_inference(entrance=entrance))
        assert (await market.chat(client)).status_code == 502
        assert (await market.chat(client)).status_code == 502
        await market.settle()
        assert (
            len(await market.attempts()) == 3
        )  # Two of the first, where the budget was spent; one of the second.

    async def test_busy_endpoints_say_when_to_come_again(self, market):
        await market.books.fund(10**9)
        replica = await market.stack.enter_async_context(ScriptedReplica(is_full))
        await market.add_endpoint(replica, capacity=100)
        shedder = LoadShedder(market.directory)
        client = await market.serve(market.make_inference(entrance=Entrance(shedder=shedder)))
        refused = await market.chat(client)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


class TestDeadline:
    async def test_the_replica_gets_what_is_left_of_it(self, market):
        await market.books.fund(10**9)
        seen = []

        async def note(exchange):
            seen.append(int(exchange.headers["x-deadline-ms"]))
            await answer(exchange)

        replica = await market.stack.enter_async_context(ScriptedReplica(note))
        await market.add_endpoint(replica)
        for given in ("4321", "999999"):
            response = await market.client.post(
                "/v1/chat/completions", json=market.body(), headers={"x-raymart-deadline-ms": given}
            )
            assert response.status_code == 200
        assert 0 < seen[0] <= 4321 < seen[1] <= 1_000 * market.limits.request_deadline_s

    async def test_a_request_ends_when_its_own_deadline_does(self, market, gate):
        response = await market.client.post(
            "/v1/chat/completions", json=market.body(), headers={"x-raymart-deadline-ms": "150"}
        )
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        gate.opened.set()
        await market.settle()
        assert (await market.balance())[1] == 0

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
    async def test_the_body_says_it_too_and_the_shorter_of_both_holds(self, market, path):
        await market.books.fund(10**9)
        seen = []

        async def note(exchange):
            seen.append(int(exchange.headers["x-deadline-ms"]))
            await answer(exchange)

        replica = await market.stack.enter_async_context(ScriptedReplica(note))
        await market.add_endpoint(replica)
        for timeout, header in ((3.5, None), (3.5, "2500"), (2.5, "3500")):
            headers = {} if header is None else {"x-raymart-deadline-ms": header}
            body = market.body(timeout=timeout) | {"prompt": "hi"}
            del body["prompt" if "chat" in path else "messages"]
            response = await market.client.post(path, json=body, headers=headers)
            assert response.status_code == 200, response.text
        assert 2_500 < seen[0] <= 3_500
        assert max(seen[1:]) <= 2_500

    @pytest.mark.parametrize("timeout", [0, -1, 86_401])
    async def test_a_timeout_that_is_none_is_refused(self, market, timeout):
        response = await market.chat(timeout=timeout)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "timeout")

    async def test_what_cannot_be_begun_in_time_is_refused_before_it_costs_anything(self, market):
        await market.books.fund(10**9)
        replica = await market.add_endpoint(first_token_ms=60_000.0)
        response = await market.client.post(
            "/v1/chat/completions", json=market.body(), headers={"x-raymart-deadline-ms": "5000"}
        )
        assert response.status_code == 504
        assert "30000 ms" in response.json()["error"]["message"]
        assert not replica.exchanges
        await market.settle()
        assert await market.requests() == []

    @pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "", "86400001", "9" * 40])
    async def test_nonsense_is_refused_by_name(self, market, given):
        response = await market.client.post(
            "/v1/chat/completions", json=market.body(), headers={"x-raymart-deadline-ms": given}
        )
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "x-raymart-deadline-ms"
