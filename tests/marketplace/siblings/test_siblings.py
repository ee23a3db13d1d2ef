"""Two processes' worth of marketplace over a real pair of sockets, a real link to the first, requests at the second."""

import asyncio
import contextlib
import socket

import pytest

from raymart_core.ids import Prefix, parse
from raymart_core.units import Fault
from raymart_core.wire.link import WINDOW_BYTES, FrameType, GoAway, Heartbeat, ResponseHead, encode
from raymart_core.wire.replica import GENERATE_PATH, GenerateRequest, Sampling
from raymart_core.wire.replica import encode as encode_request
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.link import LinkLimits
from raymart_marketplace.supply.service import pause_offer
from raymart_marketplace.supply.siblings import Meeting, Meetings, wire
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.link_market import introduce, link_market, sibling_markets, until
from support.node_agents import register, registration, running_agent
from support.raw_node import again, live_node
from support.scripted_replica import NDJSON_HEAD, SECRET, ScriptedReplica

DEADLINE_MS = 20_000


@pytest.fixture
async def replica():
    async with ScriptedReplica() as replica:
        yield replica


@pytest.fixture
async def far(markets, supply, replica, tmp_path):
    """Where the second sends requests for the scripted replica, whose node is linked with the first."""
    near, other = markets
    async with running_agent(tmp_path / "node", near, token=await supply.join_token()):
        await register(tmp_path / "node", registration(supply, replica.address, SECRET, capacity=256))
        await until(lambda: other.directory.live(supply.model_slug))
        (endpoint,) = other.directory.live(supply.model_slug)
        yield lambda: other.directory.acquire(endpoint.id).upstream


def post(upstream, body=None, *, max_tokens=3):
    request = GenerateRequest(sampling=Sampling(max_tokens=max_tokens), prompt="hi")
    return upstream.post(
        GENERATE_PATH,
        encode_request(request) if body is None else body,
        request_id="req_1",
        deadline_ms=DEADLINE_MS,
    )


async def read_all(response):
    body = b"".join([chunk async for chunk in response.chunks()])
    await response.aclose()
    return body


async def endless(exchange):
    exchange.prompt()
    while not exchange.gone.is_set():
        exchange.step()
        await asyncio.sleep(0.005)


class TestRequest:
    async def test_it_reaches_a_node_of_the_siblings_and_streams_back(self, far, replica):
        response = await post(far(), max_tokens=3)
        body = await read_all(response)
        assert (response.status, body.count(b"\n")) == (200, 5)
        assert replica.exchanges[0].headers["x-request-id"] == "req_1"

    async def test_the_first_piece_comes_before_the_last_is_made(self, far, replica):
        go_on = asyncio.Event()

        async def halting(exchange):
            exchange.prompt()
            exchange.step()
            await go_on.wait()
            exchange.finish()

        replica.script = halting
        response = await post(far())
        pieces = response.chunks()
        received = b""
        async with asyncio.timeout(10):
            while received.count(b"\n") < 2:
                received += await anext(pieces)
        go_on.set()
        assert (await read_all(response)).count(b"\n") == 1

    async def test_a_refusal_keeps_its_status_and_body(self, far, replica):
        async def refuse(exchange):
            exchange.refuse(503, "all slots are busy", Fault.PROVIDER)

        replica.script = refuse
        response = await post(far())
        assert response.status == 503
        assert b"all slots are busy" in await read_all(response)

    async def test_a_body_of_megabytes_arrives_whole(self, far, replica):
        async def digest(exchange):
            exchange.refuse(200, str(len(exchange.body)), Fault.NONE)

        replica.script = digest
        response = await post(far(), bytes(3_000_000))
        assert b"3000000" in await read_all(response)

    async def test_two_hundred_at_once_both_ways_keep_apart(self, markets, supply, far, replica, tmp_path):
        """Each process has requests of its own on the same connection, under ids of its own."""
        near, other = markets
        async with (
            ScriptedReplica() as second,
            running_agent(tmp_path / "second", other, token=await supply.join_token()),
        ):
            await register(tmp_path / "second", registration(supply, second.address, SECRET, capacity=256))
            await until(lambda: len(near.directory.live(supply.model_slug)) == 2)
            (back,) = (each for each in near.directory.live(supply.model_slug) if each.node_name == "second")
            ways = (far(), near.directory.acquire(back.id).upstream)

            async def one(number):
                response = await post(ways[number % 2], max_tokens=number % 7 + 1)
                return (await read_all(response)).count(b"\n") - number % 7

            async with asyncio.timeout(60):
                assert await asyncio.gather(*map(one, range(200))) == [3] * 200
            assert (len(replica.exchanges), len(second.exchanges)) == (100, 100)


class TestBackPressure:
    async def test_who_reads_nothing_stops_the_replica_after_a_window(self, far, replica):
        sent = 0

        async def flood(exchange):
            nonlocal sent
            exchange.raw(NDJSON_HEAD)
            piece = b"x" * 65_536
            while sent < 64 * WINDOW_BYTES and not exchange.gone.is_set():
                exchange.raw(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
                while exchange.transport.get_write_buffer_size() > 1_000_000 and not exchange.gone.is_set():
                    await asyncio.sleep(0.01)
            exchange.end()

        replica.scripts = [flood]
        slow = await post(far())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 64 * WINDOW_BYTES
        assert (await read_all(await post(far()))).count(b"\n") == 5
        assert len(await read_all(slow)) == 64 * WINDOW_BYTES

    async def test_a_node_that_floods_is_the_one_that_fails(self, markets, supply):
        """The process that has the link holds to the window too: a node may not fill its memory."""
        near, other = markets
        async with live_node(near, supply) as node:
            upstream = await far_upstream(node, supply, other)
            asked = asyncio.create_task(post(upstream))
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            head = ResponseHead(status=200, content_type="application/x-ndjson")
            await node.frame(FrameType.HEAD, stream_id, encode(head))
            response = await asked
            for _ in range(WINDOW_BYTES // 65_536 + 1):
                await node.frame(FrameType.DATA, stream_id, bytes(65_536))
            assert (await node.hear_kind(FrameType.RESET))[0] == stream_id
            with pytest.raises(UpstreamBroken, match="without credit") as broken:
                await read_all(response)
            assert broken.value.fault is Fault.PROVIDER


async def far_upstream(node, supply, other, **announced):
    """Where `other` sends requests for a node written by hand, once it is live there."""
    await node.announce(supply, **announced)
    await until(lambda: other.directory.live(supply.model_slug))
    (endpoint,) = other.directory.live(supply.model_slug)
    return other.directory.acquire(endpoint.id).upstream


class TestLeaving:
    async def test_a_response_that_is_closed_stops_the_replica(self, far, replica):
        replica.script = endless
        response = await post(far())
        await anext(aiter(response.chunks()))
        await response.aclose()
        async with asyncio.timeout(10):
            await replica.exchanges[0].gone.wait()

    async def test_giving_up_the_wait_for_a_head_stops_the_replica(self, far, replica):
        async def silent(exchange):
            await exchange.gone.wait()

        replica.script = silent
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await post(far())
        async with asyncio.timeout(10):
            await replica.exchanges[0].gone.wait()

    async def test_a_process_that_dies_stops_what_it_had_under_way_at_others(self, markets, far, replica):
        near, other = markets
        replica.script = endless
        response = await post(far())
        await anext(aiter(response.chunks()))
        await other.siblings.stop()
        async with asyncio.timeout(10):
            await replica.exchanges[0].gone.wait()
        link = next(iter(near.endpoint._links.values()))
        await until(lambda: not link.streams_open)


class TestLoss:
    async def test_a_link_that_breaks_is_out_of_routing_when_its_streams_fail(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            asked = asyncio.create_task(post(await far_upstream(node, supply, other)))
            await node.hear_kind(FrameType.OPEN)
            node.socket.transport.abort()
            async with asyncio.timeout(5):
                with pytest.raises(UpstreamBroken) as broken:
                    await asked
            assert not other.directory.live(supply.model_slug)
            assert broken.value.fault is Fault.NETWORK

    async def test_a_process_that_dies_takes_its_nodes_out_of_routing(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            upstream = await far_upstream(node, supply, other)
            asked = asyncio.create_task(post(upstream))
            await node.hear_kind(FrameType.OPEN)
            # As the kernel does for a process that was killed.
            for sibling in tuple(near.siblings._siblings):
                sibling.close()
            async with asyncio.timeout(5):
                with pytest.raises(UpstreamBroken, match="is gone") as broken:
                    await asked
            assert broken.value.fault is Fault.NETWORK
            assert not other.directory.live(supply.model_slug)
            assert near.directory.live(supply.model_slug)
            with pytest.raises(UpstreamBroken, match="is gone"):
                await post(upstream)

    async def test_a_request_to_a_link_that_has_just_gone_is_nobodys_fault(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            upstream = await far_upstream(node, supply, other)
        await until(lambda: not other.directory.live(supply.model_slug))
        with pytest.raises(UpstreamBroken, match="the node's link is gone") as broken:
            await post(upstream)
        assert broken.value.fault is Fault.NETWORK

    async def test_a_node_that_comes_back_to_the_other_is_used_there(self, sessions, supply):
        """Its old link may be dead and nobody knows: the newest is used by all, and the old one is looked at."""
        # The roll, which would find out by itself, is not called.
        limits = LinkLimits(recheck_s=3600.0)
        async with (
            sibling_markets(sessions, limits=limits) as (near, other),
            live_node(near, supply) as node,
        ):
            await far_upstream(node, supply, other)
            async with again(other, node) as newer:
                await newer.prove()
                await newer.announce(supply)
                refusal = await node.refusal()
                assert refusal.reason == "superseded"
                await until(lambda: near.directory.live(supply.model_slug))
                (endpoint,) = near.directory.live(supply.model_slug)
                asked = asyncio.create_task(post(near.directory.acquire(endpoint.id).upstream))
                await newer.hear_kind(FrameType.OPEN)
                asked.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asked


class TestWhatIsKnown:
    async def test_a_process_that_begins_knows_all_before_it_serves(self, sessions, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            await far_upstream(node, supply, other)
            meetings = Meetings()
            introduce(near.siblings._meetings, meetings)
            async with link_market(sessions, meetings=meetings) as newcomer:
                assert newcomer.directory.live(supply.model_slug)

    async def test_a_draining_node_gets_no_requests_from_anybody(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            await far_upstream(node, supply, other)
            await node.say(GoAway(drain_s=1.0, reason="test"))
            await until(lambda: not other.directory.live(supply.model_slug))
            assert other.directory.is_linked(parse(Prefix.NODE, node.node_id))

    async def test_what_the_database_says_is_looked_up_when_the_links_process_does(self, sessions, supply):
        """Not a refresh later, which may be half a minute in a large market."""
        async with (
            sibling_markets(sessions, refresh_s=3600.0) as (near, other),
            live_node(near, supply) as node,
        ):
            await far_upstream(node, supply, other)
            async with session_scope(sessions) as session:
                await pause_offer(session, offer_id=supply.offer_id)
            near.endpoint.look_at_node(parse(Prefix.NODE, node.node_id))
            await until(lambda: not other.directory.live(supply.model_slug))

    async def test_requests_of_one_process_count_at_the_other(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            await far_upstream(node, supply, other)
            (endpoint,) = near.directory.live(supply.model_slug)
            # `far_upstream` has one of its own under way.
            await until(lambda: near.directory.live(supply.model_slug)[0].running == 1)
            with near.directory.acquire(endpoint.id), near.directory.acquire(endpoint.id):
                assert near.directory.live(supply.model_slug)[0].running == 3
                await until(lambda: other.directory.live(supply.model_slug)[0].running == 3)
            await until(lambda: other.directory.live(supply.model_slug)[0].running == 1)

    async def test_what_a_node_reports_counts_everywhere(self, markets, supply):
        near, other = markets
        async with live_node(near, supply) as node:
            await node.announce(supply)
            await until(lambda: other.directory.live(supply.model_slug))
            for running in ({"raw-1": 2}, {}):
                await node.say(Heartbeat(clock_ms=1, running=running))
                wanted = running.get("raw-1", 0)
                await until(
                    lambda wanted=wanted: other.directory.live(supply.model_slug)[0].running == wanted
                )


class TestDirectWays:
    async def test_a_replica_with_an_address_is_reached_without_the_sibling(self, markets, supply, replica):
        near, other = markets
        ways = []
        for market in markets:
            market.directory._direct_pools = frozenset({supply.pool_slug})
            market.directory._direct = lambda address, *_secrets: (
                ways.append(address) or f"direct to {address}"
            )
        async with live_node(near, supply) as node:
            upstream = await far_upstream(node, supply, other, address=replica.address, secret=SECRET)
            assert upstream == f"direct to {replica.address}"
            assert ways == [replica.address] * 2


class TestAnotherVersion:
    @pytest.mark.parametrize(
        "said",
        [
            wire.pack_message(wire.Hello(version=wire.VERSION + 1)),
            b"\x00\x00\x00\x0c\x00" + bytes(4) + b"\x92\xa6gossip",
        ],
    )
    async def test_each_serves_by_itself(self, sessions, supply, said):
        meetings = Meetings()
        ours, theirs = socket.socketpair()
        meetings.add(Meeting(socket=ours, is_elder=True))
        with theirs:
            theirs.sendall(said)
            async with link_market(sessions, meetings=meetings) as market, live_node(market, supply) as node:
                await node.announce(supply)
                await until(lambda: market.directory.live(supply.model_slug))
                theirs.setblocking(False)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(5):
                    with contextlib.suppress(ConnectionError):
                        while await loop.sock_recv(theirs, 65_536):
                            pass
                assert not market.siblings._siblings
