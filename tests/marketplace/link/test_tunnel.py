"""Inference through a real link: the gateway's upstream, uvicorn, a node agent and a scripted replica."""

import asyncio
import contextlib
import time

import pytest

from raymart_core.units import Fault
from raymart_core.wire.link import WINDOW_BYTES
from raymart_core.wire.replica import GENERATE_PATH, GenerateRequest, Sampling, encode
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.link_market import until
from support.node_agents import register, registered, registration, running_agent
from support.scripted_replica import NDJSON_HEAD, SECRET, ScriptedReplica, answer


def body_of(*, max_tokens=3):
    return encode(GenerateRequest(sampling=Sampling(max_tokens=max_tokens), prompt="hi"))


async def read_all(response):
    body = b"".join([chunk async for chunk in response.chunks()])
    await response.aclose()
    return body


@pytest.fixture
async def replica():
    async with ScriptedReplica() as replica:
        yield replica


@pytest.fixture
async def endpoint(market, supply, replica, tmp_path):
    """A live endpoint whose only replica is the scripted one."""
    async with running_agent(tmp_path / "node", market, token=await supply.join_token()):
        await register(tmp_path / "node", registration(supply, replica.address, SECRET, capacity=256))
        await until(lambda: market.directory.live(supply.model_slug))
        yield market.directory.live(supply.model_slug)[0]


@pytest.fixture
def post(market, endpoint):
    async def post(*, max_tokens=3, path=GENERATE_PATH, body=None, deadline_ms=20_000):
        lease = market.directory.acquire(endpoint.id)
        return await lease.upstream.post(
            path,
            body_of(max_tokens=max_tokens) if body is None else body,
            request_id="req_1",
            deadline_ms=deadline_ms,
        )

    return post


class TestRequest:
    async def test_it_reaches_the_replica_with_its_secret_and_the_answer_comes_back(self, post, replica):
        response = await post()
        body = await read_all(response)
        headers = replica.exchanges[0].headers
        assert response.status == 200
        assert body.count(b"\n") == 5
        assert (headers["authorization"], headers["x-request-id"], headers["x-deadline-ms"]) == (
            f"Bearer {SECRET}",
            "req_1",
            "20000",
        )
        assert replica.exchanges[0].body == body_of()

    async def test_a_refusal_keeps_its_status_and_body(self, post, replica):
        async def refuse(exchange):
            exchange.refuse(400, "too long", Fault.CUSTOMER, param="messages")

        replica.script = refuse
        response = await post()
        assert response.status == 400
        assert b"too long" in await read_all(response)

    async def test_a_body_of_megabytes_arrives_whole(self, post, replica):
        async def digest(exchange):
            exchange.refuse(200, str(len(exchange.body)), Fault.NONE)

        replica.script = digest
        response = await post(body=bytes(3_000_000))
        assert b"3000000" in await read_all(response)

    @pytest.mark.parametrize("path", ["/drain", "/v1/../drain x", "/v1/generate HTTP/1.1\r\nX: y"])
    async def test_the_marketplace_cannot_reach_what_is_not_inference(self, post, replica, path):
        with pytest.raises(UpstreamBroken, match="protocol"):
            await post(path=path)
        assert replica.exchanges == []

    async def test_a_replica_that_is_gone_meanwhile_is_the_providers_fault(
        self, market, supply, endpoint, post
    ):
        upstream = market.directory.acquire(endpoint.id).upstream
        upstream._replica_id = "replica-of-yesterday"
        with pytest.raises(UpstreamBroken, match="no_replica") as broken:
            await upstream.post(GENERATE_PATH, b"{}", request_id="r", deadline_ms=1_000)
        assert broken.value.fault is Fault.PROVIDER


class TestConcurrency:
    async def test_two_hundred_streams_share_one_connection(self, post, replica):
        async def trickle(exchange):
            exchange.prompt()
            for _ in range(20):
                exchange.step()
                await asyncio.sleep(0.005)
            exchange.finish()

        replica.script = trickle

        async def one():
            response = await post(max_tokens=20)
            return (await read_all(response)).count(b"\n")

        async with asyncio.timeout(60):
            counts = await asyncio.gather(*(one() for _ in range(200)))
        assert counts == [22] * 200
        assert len(replica.exchanges) == 200

    async def test_a_consumer_that_reads_nothing_holds_only_its_own_stream(self, post, replica):
        """Without windows, the flood would fill the link's buffers and the small request would wait behind it."""
        sent = 0

        async def flood(exchange):
            nonlocal sent
            exchange.raw(NDJSON_HEAD)
            piece = b"x" * 65_536
            # Well past window, sockets and buffers.
            while sent < 64 * WINDOW_BYTES and not exchange.gone.is_set():
                exchange.raw(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
                while exchange.transport.get_write_buffer_size() > 1_000_000 and not exchange.gone.is_set():
                    await asyncio.sleep(0.01)
            exchange.end()

        replica.scripts = [flood]
        slow = await post()
        # It has run into its window: nothing moves any more.
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64 * WINDOW_BYTES
        began_at = time.monotonic()
        for _ in range(10):
            assert (await read_all(await post())).count(b"\n") == 5
        assert time.monotonic() - began_at < 30
        chunks = slow.chunks()
        received = 0
        async for chunk in chunks:
            received += len(chunk)
        assert received == 64 * WINDOW_BYTES
        await slow.aclose()


class TestBreaks:
    async def test_closing_the_response_closes_the_replicas_connection(self, post, replica):
        async def endless(exchange):
            exchange.prompt()
            while not exchange.gone.is_set():
                exchange.step()
                await asyncio.sleep(0.005)

        replica.script = endless
        response = await post()
        await anext(aiter(response.chunks()))
        began_at = time.monotonic()
        await response.aclose()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        assert time.monotonic() - began_at < 15

    async def test_giving_up_the_wait_for_a_head_closes_the_replicas_connection(self, post, replica):
        async def silent(exchange):
            await exchange.gone.wait()

        replica.script = silent
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await post()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()

    async def test_a_replica_that_dies_is_seen_in_milliseconds(self, post, replica):
        async def die(exchange):
            exchange.prompt()
            exchange.step()
            await asyncio.sleep(0.05)
            nonlocal died_at
            died_at = time.monotonic()
            exchange.cut()

        died_at = 0.0
        replica.script = die
        response = await post()
        received = []

        async def read():
            async for chunk in response.chunks():
                received.append(chunk)

        with pytest.raises(UpstreamBroken, match="replica_lost") as broken:
            await read()
        assert time.monotonic() - died_at < 15
        assert broken.value.fault is Fault.PROVIDER
        assert b"".join(received).count(b"\n") == 2

    async def test_an_answer_cut_in_the_middle_is_no_end(self, post, replica):
        async def close_early(exchange):
            exchange.prompt()
            exchange.transport.close()

        replica.script = close_early
        response = await post()
        with pytest.raises(UpstreamBroken, match="replica_lost"):
            await read_all(response)

    async def test_an_answer_that_is_no_http_is_the_providers_fault(self, post, replica):
        async def nonsense(exchange):
            exchange.raw(b"220 smtp ready\r\n\r\n")

        replica.script = nonsense
        with pytest.raises(UpstreamBroken, match="protocol") as broken:
            await post()
        assert broken.value.fault is Fault.PROVIDER

    async def test_a_call_that_outlives_its_deadline_is_cut_by_the_agent(self, post, replica, monkeypatch):
        monkeypatch.setattr("raymart_providers.replica_call._DEADLINE_SLACK_S", 0.1)

        async def silent(exchange):
            await exchange.gone.wait()

        replica.script = silent
        with pytest.raises(UpstreamBroken, match="replica_lost"):
            await post(deadline_ms=100)

    async def test_everything_opened_is_counted_off_again(self, market, supply, endpoint, post, replica):
        replica.scripts = [answer, answer]
        with market.directory.acquire(endpoint.id) as lease:
            response = await lease.upstream.post(GENERATE_PATH, body_of(), request_id="r", deadline_ms=5_000)
            await read_all(response)
            assert market.directory.live(supply.model_slug)[0].running == 1
        assert market.directory.live(supply.model_slug)[0].running == 0


class TestReplicaLife:
    async def test_a_replica_whose_port_closes_leaves_routing_in_milliseconds(self, market, supply, tmp_path):
        async with running_agent(tmp_path / "node", market, token=await supply.join_token()):
            async with ScriptedReplica() as replica:
                await register(tmp_path / "node", registration(supply, replica.address, SECRET))
                await until(lambda: market.directory.live(supply.model_slug))
                await until(lambda: replica.connections)
            died_at = time.monotonic()
            await until(lambda: not market.directory.live(supply.model_slug), every_s=0.001)
            assert time.monotonic() - died_at < 15

    async def test_a_draining_replica_gets_no_new_requests(self, market, supply, replica, tmp_path):
        async with running_agent(tmp_path / "node", market, token=await supply.join_token()):
            await register(tmp_path / "node", registration(supply, replica.address, SECRET))
            await until(lambda: market.directory.live(supply.model_slug))
            await register(tmp_path / "node", registration(supply, replica.address, SECRET, state="draining"))
            await until(lambda: not market.directory.live(supply.model_slug))

    async def test_the_least_loaded_replica_is_chosen(self, market, supply, tmp_path):
        async with contextlib.AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(ScriptedReplica()) for _ in range(2)]
            await stack.enter_async_context(
                running_agent(tmp_path / "node", market, token=await supply.join_token())
            )
            for number, replica in enumerate(replicas):
                await register(
                    tmp_path / "node",
                    registration(supply, replica.address, SECRET, replica_id=f"replica-{number}"),
                )
            await until(lambda: [one.capacity for one in market.directory.live(supply.model_slug)] == [8])
            (endpoint,) = market.directory.live(supply.model_slug)
            leases = [market.directory.acquire(endpoint.id) for _ in range(6)]
            for lease in leases:
                await read_all(
                    await lease.upstream.post(GENERATE_PATH, body_of(), request_id="r", deadline_ms=5_000)
                )
            assert [len(replica.exchanges) for replica in replicas] == [3, 3]

    async def test_endpoints_come_back_after_the_marketplace_restarts(
        self, market, supply, replica, tmp_path
    ):
        async with (
            running_agent(tmp_path / "node", market, token=await supply.join_token()),
            registered(tmp_path / "node", registration(supply, replica.address, SECRET)),
        ):
            await until(lambda: market.directory.live(supply.model_slug))
            await market.stop()
            await market.start()
            await until(lambda: market.directory.live(supply.model_slug))
