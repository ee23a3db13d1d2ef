"""The pooled client against a real server that breaks on demand."""

import asyncio
import re
import socket

import pytest

from raymart_core.units import Fault
from raymart_core.wire.replica import GenerateRequest, Sampling, encode
from raymart_marketplace.gateway.http_client import (
    BUFFERED_BYTES_MAX,
    ClientLimits,
    DirectUpstream,
    HttpResponse,
)
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.scripted_replica import SECRET, Exchange, ScriptedReplica, answer

BODY = encode(GenerateRequest(sampling=Sampling(max_tokens=2), prompt="hi"))


@pytest.fixture
async def replica():
    async with ScriptedReplica() as server:
        yield server


@pytest.fixture
def upstream(replica):
    client = DirectUpstream(replica.address, SECRET)
    yield client
    client.close()


async def post(upstream: DirectUpstream) -> HttpResponse:
    return await upstream.post("/v1/generate", BODY, request_id="req_1", deadline_ms=1000)


async def body(response: HttpResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


class TestExchange:
    async def test_request_carries_secret_id_deadline_and_length(self, replica, upstream):
        response = await post(upstream)
        assert response.status == 200
        assert (await body(response)).count(b"\n") == 4
        headers = replica.exchanges[0].headers
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert headers["x-request-id"] == "req_1"
        assert headers["x-deadline-ms"] == "1000"
        assert replica.exchanges[0].body == BODY

    async def test_body_of_known_length_is_whole(self, replica, upstream):
        async def sized(exchange):
            exchange.raw(b"HTTP/1.1 400 Bad\r\nContent-Length: 6\r\n\r\nabc")
            await asyncio.sleep(0)
            exchange.raw(b"def")

        replica.script = sized
        response = await post(upstream)
        assert (response.status, await body(response)) == (400, b"abcdef")

    async def test_a_complete_answer_gives_its_connection_back(self, replica, upstream):
        for _ in range(5):
            await body(await post(upstream))
        assert replica.connections == 1

    async def test_concurrent_requests_use_their_own_connections(self, replica, upstream):
        responses = await asyncio.gather(*(post(upstream) for _ in range(5)))
        assert replica.connections == 5
        assert [len(await body(response)) for response in responses] == [
            len(await body(await post(upstream)))
        ] * 5


class TestReuse:
    async def test_a_connection_that_the_replica_closed_is_not_used_again(self):
        """The end is in the kernel but the event loop has not seen it: only the poll before reuse can."""
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            upstream = DirectUpstream(f"127.0.0.1:{listener.getsockname()[1]}", SECRET)

            async def accept_and_answer():
                peer, _ = await loop.sock_accept(listener)
                await loop.sock_recv(peer, 65536)
                await loop.sock_sendall(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                return peer

            serving = asyncio.create_task(accept_and_answer())
            assert await body(await post(upstream)) == b"ok"
            peer = await serving
            serving = asyncio.create_task(accept_and_answer())
            peer.close()
            assert await body(await post(upstream)) == b"ok"
            (await serving).close()
            upstream.close()

    async def test_an_idle_connection_expires(self, replica):
        upstream = DirectUpstream(replica.address, SECRET, limits=ClientLimits(idle_s=0.0))
        await body(await post(upstream))
        await asyncio.sleep(0.001)
        await body(await post(upstream))
        assert replica.connections == 2
        upstream.close()

    async def test_connection_close_is_obeyed(self, replica, upstream):
        async def last(exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

        replica.scripts = [last]
        assert await body(await post(upstream)) == b"ok"
        await body(await post(upstream))
        assert replica.connections == 2

    async def test_an_abandoned_answer_closes_its_connection(self, replica, upstream):
        async def hang(exchange):
            exchange.prompt()
            await exchange.gone.wait()

        replica.script = hang
        response = await post(upstream)
        await response.aclose()
        await response.aclose()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        with pytest.raises(UpstreamBroken):
            await body(response)

    async def test_a_cancelled_post_closes_its_connection(self, replica, upstream):
        async def silent(exchange):
            await exchange.gone.wait()

        replica.script = silent
        task = asyncio.create_task(post(upstream))
        while not replica.exchanges:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()


class TestFaults:
    @pytest.mark.parametrize(
        ("answer_bytes", "said"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nendless", "could end anywhere"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "could end anywhere"),
            (b"SSH-2.0-OpenSSH\r\n", "no valid HTTP"),
            (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000 + b"\r\ncontent-length: 0\r\n\r\n", "no valid HTTP"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "no valid HTTP"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde", "no valid HTTP"),
        ],
    )
    async def test_an_answer_that_is_no_http_is_the_providers_fault(
        self, replica, upstream, answer_bytes, said
    ):
        async def bad(exchange):
            exchange.raw(answer_bytes)

        replica.script = bad
        with pytest.raises(UpstreamBroken, match=said) as caught:
            await body(await post(upstream))
        assert caught.value.fault is Fault.PROVIDER

    async def test_a_cut_in_the_body_is_the_providers_fault_after_what_arrived(self, replica, upstream):
        async def dies(exchange):
            exchange.prompt()
            exchange.step()
            await asyncio.sleep(0.01)
            exchange.cut()

        replica.script = dies
        response = await post(upstream)
        got = [await anext(response.chunks())]
        with pytest.raises(UpstreamBroken) as caught:
            got.append(await body(response))
        assert b"tok" in b"".join(got)
        assert caught.value.fault is Fault.PROVIDER

    async def test_a_refused_connection_is_the_providers_fault(self):
        async with ScriptedReplica() as gone:
            address = gone.address
        with pytest.raises(UpstreamBroken, match="cannot connect") as caught:
            await post(DirectUpstream(address, SECRET))
        assert caught.value.fault is Fault.PROVIDER

    async def test_a_connection_that_is_never_accepted_times_out_as_the_networks_fault(self):
        # A full backlog of one: the kernel answers no further handshakes.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            upstream = DirectUpstream(address, SECRET, limits=ClientLimits(connect_timeout_s=0.05))
            with pytest.raises(UpstreamBroken, match="no connection within") as caught:
                await post(upstream)
            assert caught.value.fault is Fault.NETWORK
            for filler in fillers:
                filler.close()

    async def test_a_head_that_never_comes_is_the_providers_fault(self, replica):
        async def silent(exchange):
            await exchange.gone.wait()

        replica.script = silent
        upstream = DirectUpstream(replica.address, SECRET, limits=ClientLimits(head_timeout_s=0.05))
        with pytest.raises(UpstreamBroken, match="no answer within") as caught:
            await post(upstream)
        assert caught.value.fault is Fault.PROVIDER

    async def test_unasked_bytes_close_the_idle_connection(self, replica, upstream):
        await body(await post(upstream))
        replica.exchanges[0].raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        assert (await post(upstream)).status == 200

    async def test_a_second_answer_is_not_taken_for_the_next_requests(self, replica, upstream):
        async def one_and_a_half(exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na" + b"HTTP/1.1 200 OK\r\ncontent-le")

        async def the_other_half(exchange):
            if exchange.transport is replica.exchanges[0].transport:
                exchange.raw(b"ngth: 4\r\n\r\nevil")
            else:
                await answer(exchange)

        replica.scripts = [one_and_a_half, the_other_half]
        assert await body(await post(upstream)) == b"a"
        assert (await body(await post(upstream))).startswith(b'{"e":"p"')

    async def test_more_connections_than_allowed_are_refused_as_the_platforms_limit(self, replica):
        upstream = DirectUpstream(replica.address, SECRET, limits=ClientLimits(connections_max=1))

        async def hang(exchange):
            exchange.prompt()
            await exchange.gone.wait()

        replica.script = hang
        response = await post(upstream)
        with pytest.raises(UpstreamBroken, match="1 connections") as caught:
            await post(upstream)
        assert caught.value.fault is Fault.PLATFORM
        await response.aclose()

    @pytest.mark.parametrize("address", ["nohost", "host:", "host:99999", "host:1\r\nx: y", "ho st:1"])
    async def test_an_address_that_is_none_is_refused(self, address):
        with pytest.raises(ValueError, match=re.escape("host:port") + "|printable"):
            DirectUpstream(address, SECRET)

    async def test_a_secret_cannot_add_headers(self):
        with pytest.raises(ValueError, match="printable"):
            DirectUpstream("127.0.0.1:1", "a\r\nx: y")


class TestBackPressure:
    async def test_a_reader_that_does_not_read_stops_the_replica(self, replica, upstream):
        total = 64 * 1024 * 1024
        stopped = asyncio.Event()

        async def flood(exchange: Exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            for _ in range(total // 2**20):
                exchange.raw(bytes(2**20))
                if exchange.transport.get_write_buffer_size() > 16 * 2**20:
                    stopped.set()
                await asyncio.sleep(0)

        replica.script = flood
        response = await post(upstream)
        async with asyncio.timeout(30):
            await stopped.wait()
        assert response.buffered_bytes < 4 * BUFFERED_BYTES_MAX
        assert sum([len(chunk) async for chunk in response.chunks()]) == total

    async def test_a_connection_that_was_paused_at_the_end_is_reusable(self, replica, upstream):
        async def big(exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n" + bytes(4_000_000))

        replica.scripts = [big, answer]
        assert len(await body(await post(upstream))) == 4_000_000
        assert (await post(upstream)).status == 200
        assert replica.connections == 1
