"""A live link's rules, by nodes that break them."""

import asyncio
import contextlib

import pytest

from raymart_core.ids import Prefix, parse
from raymart_core.units import Fault
from raymart_core.wire.link import (
    FRAME_BYTES_MAX,
    WINDOW_BYTES,
    FrameType,
    GoAway,
    Heartbeat,
    Hello,
    OpenRequest,
    Refuse,
    Reset,
    ResponseHead,
    decode_open,
    decode_reset,
    encode,
    pack_credit,
    unpack_credit,
)
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.link import LinkLimits
from raymart_marketplace.supply.service import revoke_node
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.link_market import link_market, until
from support.raw_node import HARDWARE, again, live_node

HEAD = encode(ResponseHead(status=200, content_type="application/x-ndjson"))


async def drain(response, into=None):
    """Read to the end; what was read goes into `into` even when the end is a break."""
    async for chunk in response.chunks():
        if into is not None:
            into.append(chunk)


async def post_and_drain(pending):
    await drain(await pending)


async def live_endpoint(market, supply, node, **changes):
    """The node's only endpoint, announced and in routing."""
    await node.announce(supply, **changes)
    await until(lambda: market.directory.live(supply.model_slug))
    return market.directory.live(supply.model_slug)[0]


def posting(market, endpoint, *, body=b"{}"):
    """A request on its way to the node."""
    lease = market.directory.acquire(endpoint.id)
    return asyncio.ensure_future(
        lease.upstream.post("/v1/generate", body, request_id="req_1", deadline_ms=5_000)
    )


class TestOneLinkPerNode:
    async def test_the_newer_proof_wins_and_the_older_link_is_told(self, market, supply):
        async with live_node(market, supply) as older, again(market, older) as newer:
            await newer.prove()
            assert (await older.hear_until(GoAway)).reason == "superseded"
            assert (await older.closed())[0] == 4001
            await live_endpoint(market, supply, newer)
            assert market.directory.live(supply.model_slug)

    async def test_the_older_links_end_does_not_take_the_newer_ones_endpoints(self, market, supply):
        async with live_node(market, supply) as older:
            await live_endpoint(market, supply, older)
            async with again(market, older) as newer:
                await newer.prove()
                await live_endpoint(market, supply, newer)
                await older.closed()
                await older.socket.close()
                assert market.directory.live(supply.model_slug)

    async def test_requests_on_the_older_link_break_at_once(self, market, supply):
        async with live_node(market, supply) as older:
            endpoint = await live_endpoint(market, supply, older)
            pending = posting(market, endpoint)
            await older.hear_kind(FrameType.OPEN)
            async with again(market, older) as newer:
                await newer.prove()
                with pytest.raises(UpstreamBroken) as broken:
                    await pending
        assert broken.value.fault is Fault.NETWORK


@contextlib.asynccontextmanager
async def beating(node):
    """Heartbeats of the node, as long as the block lasts; a busy machine takes longer to sell it than a short lease."""

    async def beat():
        while True:
            await node.say(Heartbeat(clock_ms=1))
            await asyncio.sleep(0.1)

    beats = asyncio.create_task(beat())
    try:
        yield
    finally:
        beats.cancel()
        await asyncio.wait([beats])


class TestLease:
    @pytest.fixture
    async def market(self, sessions):
        async with link_market(sessions, lease_s=1.0) as market:
            yield market

    async def test_a_silent_node_leaves_routing_after_its_lease(self, market, supply):
        async with live_node(market, supply) as node:
            async with beating(node):
                await live_endpoint(market, supply, node)
            began_at = asyncio.get_running_loop().time()
            await until(lambda: not market.directory.live(supply.model_slug))
            silent_s = asyncio.get_running_loop().time() - began_at
            assert (await node.refusal()).reason == "silent"
        assert silent_s > 0.5

    async def test_heartbeats_keep_the_lease(self, sessions, supply):
        async with (
            link_market(sessions, lease_s=2.0) as market,
            live_node(market, supply) as node,
            beating(node),
        ):
            await live_endpoint(market, supply, node)
            await asyncio.sleep(2.5)
            assert market.directory.live(supply.model_slug)

    async def test_a_closed_socket_leaves_routing_at_once(self, market, supply):
        async with live_node(market, supply) as node:
            await live_endpoint(market, supply, node)
            began_at = asyncio.get_running_loop().time()
            node.socket.transport.abort()
            await until(lambda: not market.directory.live(supply.model_slug), every_s=0.001)
        assert asyncio.get_running_loop().time() - began_at < 15  # the lease would have lasted for 20

    async def test_a_node_that_says_goaway_gets_no_new_requests(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.say(GoAway(drain_s=5, reason="stopping"))
            await until(lambda: not market.directory.live(supply.model_slug))
            assert market.directory.acquire(endpoint.id) is None
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            await node.frame(FrameType.END, stream_id)
            response = await pending
            assert [chunk async for chunk in response.chunks()] == []

    async def test_a_revoked_node_loses_its_live_link(self, market, supply, sessions):
        async with live_node(market, supply) as node:
            node_id = parse(Prefix.NODE, node.node_id)
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=node_id)
            market.endpoint.disconnect(node_id)
            assert (await node.refusal()).reason == "revoked"

    async def test_a_revoked_node_is_found_out_without_being_told(self, sessions, supply):
        async with (
            link_market(sessions, limits=LinkLimits(recheck_s=0.2), lease_s=5.0) as market,
            live_node(market, supply) as node,
        ):
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=parse(Prefix.NODE, node.node_id))
            assert (await node.refusal()).reason == "revoked"


class TestControlLimits:
    async def test_a_flood_of_control_messages_is_refused(self, market, supply):
        async with live_node(market, supply) as node:
            for _ in range(300):
                await node.say(Heartbeat(clock_ms=1))
            refusal = await node.refusal()
        assert (refusal.reason, refusal.retry) == ("limit", True)
        assert "50" in refusal.message

    async def test_a_flood_of_frames_that_carry_nothing_is_refused(self, sessions, supply):
        async with (
            link_market(sessions, limits=LinkLimits(strays_per_s=10)) as market,
            live_node(market, supply) as node,
        ):
            for _ in range(100):
                await node.frame(FrameType.DATA, 77, b"x")
            assert (await node.refusal()).reason == "limit"

    async def test_an_absurd_capacity_is_refused(self, market, supply):
        for capacity in (0, -1, 10**9):
            async with live_node(market, supply, name=f"c{abs(capacity)}") as node:
                await node.announce(supply, capacity=capacity)
                assert (await node.refusal()).reason == "limit"

    async def test_an_oversized_frame_closes_the_link(self, market, supply):
        async with live_node(market, supply) as node:
            await node.socket.send(bytes(FRAME_BYTES_MAX + 6))
            assert (await node.refusal()).reason == "protocol"

    async def test_a_message_over_the_servers_limit_closes_the_connection(self, market, supply):
        async with live_node(market, supply) as node:
            await node.socket.send(bytes(1_000_000))
            assert (await node.closed())[0] == 1009

    async def test_a_message_that_nodes_do_not_send_is_refused(self, market, supply):
        async with live_node(market, supply) as node:
            await node.say(Refuse(reason="x", message="y", retry=False))
            assert (await node.refusal()).reason == "protocol"

    async def test_a_hello_on_a_live_link_is_refused(self, market, supply):
        async with live_node(market, supply) as node:
            await node.say(Hello(version=1, node_id="x", role="node", agent_version="", clock_ms=0))
            assert (await node.refusal()).reason == "protocol"


class TestStreamRules:
    async def test_open_names_replica_path_and_deadline_and_the_body_follows(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint, body=b"the body")
            stream_id, payload = await node.hear_kind(FrameType.OPEN)
            assert decode_open(payload) == OpenRequest(
                replica_id="raw-1", method="POST", path="/v1/generate", request_id="req_1", deadline_ms=5_000
            )
            assert await node.hear_frame() == (FrameType.DATA, stream_id, b"the body")
            assert await node.hear_frame() == (FrameType.END, stream_id, b"")
            pending.cancel()

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            ([(FrameType.DATA, b"x")], "protocol"),
            ([(FrameType.END, b"")], "protocol"),
            ([(FrameType.HEAD, b"\xc1")], "protocol"),
            ([(FrameType.HEAD, HEAD), (FrameType.HEAD, HEAD)], "protocol"),
            ([(FrameType.HEAD, encode(ResponseHead(status=99, content_type="")))], "protocol"),
            ([(FrameType.HEAD, HEAD), (FrameType.DATA, b"")], "limit"),
            ([(FrameType.OPEN, b"")], "protocol"),
            ([(FrameType.WINDOW, pack_credit(1))], "protocol"),
            ([(FrameType.WINDOW, pack_credit(0))], "protocol"),
            ([(FrameType.WINDOW, b"\xff")], "protocol"),
            ([(FrameType.RESET, b"\xc1")], "protocol"),
        ],
    )
    async def test_a_frame_out_of_place_resets_the_stream_and_blames_the_provider(
        self, market, supply, frames, code
    ):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint, body=b"")
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            for kind, payload in frames:
                await node.frame(kind, stream_id, payload)
            reset_id, payload = await node.hear_kind(FrameType.RESET)
            assert (reset_id, decode_reset(payload).code) == (stream_id, code)
            with pytest.raises(UpstreamBroken) as broken:
                await post_and_drain(pending)
            assert broken.value.fault is Fault.PROVIDER
            # The link goes on.
            assert market.directory.live(supply.model_slug)

    async def test_a_nodes_reset_is_the_providers_fault_whatever_it_claims(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            claim = Reset(code="replica_lost", message="gone", fault=Fault.CUSTOMER)
            await node.frame(FrameType.RESET, stream_id, encode(claim))
            with pytest.raises(UpstreamBroken, match=r"reset the stream: replica_lost$") as broken:
                await pending
        assert broken.value.fault is Fault.PROVIDER

    async def test_what_arrived_before_a_break_is_delivered_first(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            await node.frame(FrameType.DATA, stream_id, b"one")
            await node.frame(FrameType.DATA, stream_id, b"two")
            response = await pending
            node.socket.transport.close()
            got = []
            with pytest.raises(UpstreamBroken) as broken:
                await drain(response, got)
        assert b"".join(got) == b"onetwo"
        assert broken.value.fault is Fault.NETWORK

    async def test_every_open_stream_breaks_with_the_link(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = [posting(market, endpoint) for _ in range(20)]
            for _ in pending:
                await node.hear_kind(FrameType.OPEN)
            began_at = asyncio.get_running_loop().time()
            node.socket.transport.abort()
            async with asyncio.timeout(30):
                outcomes = await asyncio.gather(*pending, return_exceptions=True)
            took_s = asyncio.get_running_loop().time() - began_at
        assert {outcome.fault for outcome in outcomes} == {Fault.NETWORK}
        assert took_s < 3

    async def test_a_cancelled_post_resets_the_stream(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            pending.cancel()
            reset_id, payload = await node.hear_kind(FrameType.RESET)
            assert (reset_id, decode_reset(payload).code) == (stream_id, "cancelled")

    async def test_closing_a_response_resets_the_stream_once(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            response = await pending
            await response.aclose()
            await response.aclose()
            assert (await node.hear_kind(FrameType.RESET))[0] == stream_id
            other = posting(market, endpoint)
            # Nothing but the next OPEN comes: there was one RESET.
            assert (await node.hear_frame())[0] is FrameType.OPEN
            other.cancel()

    async def test_streams_over_the_limit_fail_without_reaching_the_node(self, sessions, supply):
        async with (
            link_market(sessions, limits=LinkLimits(streams_max=2), lease_s=10) as market,
            live_node(market, supply) as node,
        ):
            endpoint = await live_endpoint(market, supply, node)
            pending = [posting(market, endpoint) for _ in range(2)]
            for _ in pending:
                await node.hear_kind(FrameType.OPEN)
            with pytest.raises(UpstreamBroken, match="2 streams") as broken:
                await posting(market, endpoint)
            for post in pending:
                post.cancel()
        assert broken.value.fault is Fault.PLATFORM


class TestFlowControl:
    async def test_a_body_larger_than_the_window_waits_for_credit(self, market, supply):
        body = bytes(3 * WINDOW_BYTES)
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint, body=body)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            received = 0
            while received < WINDOW_BYTES:
                received += len((await node.hear_kind(FrameType.DATA))[1])
            assert received == WINDOW_BYTES
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await node.socket.recv()
            await node.frame(FrameType.WINDOW, stream_id, pack_credit(WINDOW_BYTES))
            while received < 2 * WINDOW_BYTES:
                received += len((await node.hear_kind(FrameType.DATA))[1])
            assert received == 2 * WINDOW_BYTES
            pending.cancel()

    async def test_a_head_before_the_bodys_end_stops_the_body(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint, body=bytes(2 * WINDOW_BYTES))
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, encode(ResponseHead(status=413, content_type="")))
            response = await pending
            assert response.status == 413
            await response.aclose()

    async def test_a_node_that_overruns_the_window_loses_the_stream(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            response = await pending
            for _ in range(WINDOW_BYTES // FRAME_BYTES_MAX):
                await node.frame(FrameType.DATA, stream_id, bytes(FRAME_BYTES_MAX))
            await node.frame(FrameType.DATA, stream_id, b"x")
            reset_id, payload = await node.hear_kind(FrameType.RESET)
            assert (reset_id, decode_reset(payload).code) == (stream_id, "limit")
            got = []
            with pytest.raises(UpstreamBroken) as broken:
                await drain(response, got)
        assert len(b"".join(got)) == WINDOW_BYTES
        assert broken.value.fault is Fault.PROVIDER

    async def test_credit_comes_back_only_as_the_consumer_reads(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            pending = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            response = await pending
            for _ in range(WINDOW_BYTES // FRAME_BYTES_MAX):
                await node.frame(FrameType.DATA, stream_id, bytes(FRAME_BYTES_MAX))
            node_frames = []

            async def listen():
                while True:
                    kind, _, payload = await node.hear_frame()
                    if kind is FrameType.WINDOW:
                        node_frames.append(unpack_credit(payload))

            listening = asyncio.ensure_future(listen())
            await asyncio.sleep(0.1)
            assert node_frames == []
            assert len(await anext(aiter(response.chunks()))) == WINDOW_BYTES
            await until(lambda: node_frames)
            assert node_frames == [WINDOW_BYTES]
            listening.cancel()
            await response.aclose()

    async def test_too_much_buffered_on_one_link_resets_the_stream_that_adds_to_it(self, sessions, supply):
        limits = LinkLimits(buffered_bytes_max=2 * FRAME_BYTES_MAX)
        async with (
            link_market(sessions, limits=limits, lease_s=10) as market,
            live_node(market, supply) as node,
        ):
            endpoint = await live_endpoint(market, supply, node)
            pending = [posting(market, endpoint) for _ in range(3)]
            ids = [(await node.hear_kind(FrameType.OPEN))[0] for _ in pending]
            for stream_id in ids:
                await node.frame(FrameType.HEAD, stream_id, HEAD)
                await node.frame(FrameType.DATA, stream_id, bytes(FRAME_BYTES_MAX))
            reset_id, payload = await node.hear_kind(FrameType.RESET)
            assert (reset_id, decode_reset(payload).code) == (ids[2], "limit")
            responses = await asyncio.gather(*pending)
            assert len(await anext(aiter(responses[0].chunks()))) == FRAME_BYTES_MAX
            for response in responses:
                await response.aclose()
            # What was given up counts no more.
            other = posting(market, endpoint)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await node.frame(FrameType.HEAD, stream_id, HEAD)
            await node.frame(FrameType.DATA, stream_id, bytes(FRAME_BYTES_MAX))
            await node.frame(FrameType.END, stream_id)
            assert len(b"".join([chunk async for chunk in (await other).chunks()])) == FRAME_BYTES_MAX


class TestLoad:
    async def test_the_nodes_heartbeat_adds_the_load_of_others_only(self, market, supply):
        async with live_node(market, supply) as node:
            endpoint = await live_endpoint(market, supply, node)
            with market.directory.acquire(endpoint.id):
                await node.say(Heartbeat(clock_ms=1, running={"raw-1": 2}))
                await until(lambda: market.directory.live(supply.model_slug)[0].running == 2)
            assert market.directory.live(supply.model_slug)[0].running == 1
            await node.say(Heartbeat(clock_ms=1))
            await until(lambda: market.directory.live(supply.model_slug)[0].running == 0)

    async def test_hardware_announced_is_kept(self, market, supply, sessions):
        from raymart_marketplace.supply.models import Node

        async with live_node(market, supply) as node:
            await live_endpoint(market, supply, node)
            async with asyncio.timeout(30):
                while True:
                    async with session_scope(sessions) as session:
                        row = await session.get_one(Node, parse(Prefix.NODE, node.node_id))
                    if row.hardware.get("hostname") == HARDWARE.hostname:
                        break
                    await asyncio.sleep(0.01)
