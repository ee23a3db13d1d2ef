"""The agent's end against a marketplace written by hand, which may break every rule."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.server import serve

from raymart_core.units import Fault
from raymart_core.wire.bundle import pack_bundle
from raymart_core.wire.link import (
    WINDOW_BYTES,
    Announce,
    Challenge,
    Desired,
    Enrol,
    Enrolled,
    FrameType,
    GoAway,
    Heartbeat,
    Hello,
    OpenRequest,
    Proof,
    Refuse,
    Reset,
    Welcome,
    decode_control,
    decode_head,
    decode_reset,
    encode,
    pack_credit,
    pack_frame,
    unpack_frame,
)
from raymart_core.wire.replica import GenerateRequest, Sampling
from raymart_core.wire.replica import encode as encode_json
from raymart_providers.agent import NodeAgent
from raymart_providers.errors import LinkRefused
from raymart_providers.link.backoff import Backoff
from support.link_market import until
from support.node_agents import credentials, register, registration
from support.scripted_replica import NDJSON_HEAD, SECRET, ScriptedReplica


class HandMarket:
    """One accepted link, said and heard message by message."""

    def __init__(self, socket):
        self.socket = socket

    async def say(self, message):
        await self.socket.send(pack_frame(FrameType.CONTROL, 0, encode(message)))

    async def frame(self, kind, stream_id, payload=b""):
        await self.socket.send(pack_frame(kind, stream_id, payload))

    async def hear_frame(self, *wanted):
        while True:
            async with asyncio.timeout(30):
                kind, stream_id, payload = unpack_frame(await self.socket.recv())
            if kind in wanted:
                return kind, stream_id, payload

    async def hear(self, wanted):
        while True:
            _, _, payload = await self.hear_frame(FrameType.CONTROL)
            if isinstance(message := decode_control(payload), wanted):
                return message

    async def welcome(self, *, clock_ms=0):
        message = await self.hear((Enrol, Hello))
        if isinstance(message, Enrol):
            await self.say(Enrolled(node_id="node_" + "1" * 32))
            await self.hear(Hello)
        await self.say(Challenge(nonce=bytes(32), server="hand", server_clock_ms=clock_ms))
        await self.hear(Proof)
        await self.say(Welcome(heartbeat_s=0.2, lease_s=1.0, pool="pool", name="node"))

    async def open(self, stream_id=1, **changes):
        values = {
            "replica_id": "replica-1",
            "method": "POST",
            "path": "/v1/generate",
            "request_id": "req_1",
            "deadline_ms": 5_000,
        }
        await self.frame(FrameType.OPEN, stream_id, encode(OpenRequest(**{**values, **changes})))

    async def reset(self):
        _, _, payload = await self.hear_frame(FrameType.RESET)
        return decode_reset(payload)


class Supply:
    digest = "sha256:aa"
    model_slug = "raymart/demo-chat"


@contextlib.asynccontextmanager
async def hand_market(script):
    """A server whose every connection runs `script`; its URL and the connections it had."""
    links = []

    async def accept(socket):
        market = HandMarket(socket)
        links.append(market)
        await script(market)
        await socket.wait_closed()

    async with serve(accept, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]

        class Where:
            url = f"http://127.0.0.1:{port}"
            link_url = f"ws://127.0.0.1:{port}/link"

        yield Where, links


@contextlib.asynccontextmanager
async def agent_at(where, state_dir):
    agent = NodeAgent(
        url=where.link_url,
        credentials=credentials(state_dir, where, token="rmj_x"),
        backoff=Backoff(first_s=0.01, longest_s=0.05),
        drain_s=0.5,
    )
    task = asyncio.create_task(agent.run())
    try:
        yield agent, task
    finally:
        agent.stop()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def linked(tmp_path, replica=None):
    """An agent with a live link to a hand-made marketplace; `replica` is registered when given."""
    async with (
        hand_market(HandMarket.welcome) as (where, links),
        agent_at(where, tmp_path / "node") as (agent, _),
    ):
        await until(lambda: agent.report().link.state == "live")
        if replica is not None:
            await register(tmp_path / "node", registration(Supply, replica.address, SECRET))
        yield links[-1], agent


@pytest.fixture
async def replica():
    async with ScriptedReplica() as replica:
        yield replica


class TestHandshake:
    async def test_a_refusal_that_cannot_be_mended_ends_the_agent(self, tmp_path):
        async def refuse(market):
            await market.hear(Enrol)
            await market.say(Refuse(reason="bad_token", message="make a new one", retry=False))

        async with hand_market(refuse) as (where, links), agent_at(where, tmp_path / "node") as (_, task):
            with pytest.raises(LinkRefused, match="make a new one"):
                await asyncio.wait_for(task, 5)
        assert len(links) == 1

    async def test_a_refusal_that_may_pass_is_retried(self, tmp_path):
        async def refuse_twice(market):
            if len(links) <= 2:
                await market.say(Refuse(reason="unavailable", message="later", retry=True))
                await market.socket.close()
            else:
                await market.welcome()

        async with (
            hand_market(refuse_twice) as (where, links),
            agent_at(where, tmp_path / "node") as (agent, _),
        ):
            await until(lambda: agent.report().link.state == "live")
        assert len(links) == 3

    @pytest.mark.parametrize("message", ["text", b"", b"\xff" * 9, bytes(5) + b"\xc1", b"\x01" + bytes(4)])
    async def test_garbage_is_no_marketplace_and_is_tried_again(self, tmp_path, message):
        async def babble(market):
            await market.socket.send(message)

        async with hand_market(babble) as (where, links), agent_at(where, tmp_path / "node") as (agent, _):
            await until(lambda: len(links) >= 2)
            assert "BadPeer" in agent.report().link.error

    async def test_a_clock_that_is_off_is_reported_and_tolerated(self, tmp_path):
        async with linked(tmp_path) as (_, agent):
            assert agent.report().link.clock_skew_ms > 10**12

    async def test_an_identity_is_kept_and_used_at_the_next_dial(self, tmp_path):
        said = []

        async def script(market):
            message = await market.hear((Enrol, Hello))
            said.append(type(message).__name__)
            if isinstance(message, Enrol):
                await market.say(Enrolled(node_id="node_" + "1" * 32))
                await market.hear(Hello)
            await market.socket.close()

        async with hand_market(script) as (where, _), agent_at(where, tmp_path / "node"):
            await until(lambda: len(said) >= 3)
        assert said[:3] == ["Enrol", "Hello", "Hello"]


class TestStop:
    async def test_a_stop_gives_up_a_handshake_that_hangs(self, tmp_path):
        async with (
            hand_market(lambda market: market.hear(Enrol)) as (where, links),
            agent_at(where, tmp_path / "node") as (agent, task),
        ):
            await until(lambda: links)
            began_at = asyncio.get_running_loop().time()
            agent.stop()
            await asyncio.wait_for(task, 30)
        assert asyncio.get_running_loop().time() - began_at < 8


class TestLiveLink:
    async def test_it_announces_and_heartbeats(self, tmp_path, replica):
        async with linked(tmp_path, replica) as (market, _):
            async with asyncio.timeout(30):
                while not (announced := await market.hear(Announce)).replicas:
                    pass
            assert announced.replicas[0].replica_id == "replica-1"
            await market.hear(Heartbeat)
            await market.hear(Heartbeat)

    async def test_a_burst_of_changes_is_announced_in_few_messages(self, tmp_path, replica):
        async with linked(tmp_path) as (market, agent):
            await market.hear(Announce)
            for number in range(20):
                agent._book.register(registration(Supply, replica.address, SECRET, replica_id=f"r{number}"))
            announcements = 1
            async with asyncio.timeout(30):
                while len((await market.hear(Announce)).replicas) < 20:
                    announcements += 1
            assert announcements <= 2

    async def test_superseded_means_stop_not_fight(self, tmp_path):
        async def supersede(market):
            await market.welcome()
            await market.say(GoAway(drain_s=0, reason="superseded"))
            await market.socket.close()

        async with hand_market(supersede) as (where, links), agent_at(where, tmp_path / "node") as (_, task):
            with pytest.raises(LinkRefused, match="run only one"):
                await asyncio.wait_for(task, 5)
        assert len(links) == 1

    async def test_unknown_news_is_let_pass(self, tmp_path):
        async with linked(tmp_path) as (market, agent):
            await market.say(Desired(generation=1, placements=()))
            await market.hear(Heartbeat)
            assert agent.report().link.state == "live"

    async def test_garbage_ends_the_link_and_the_agent_dials_again(self, tmp_path):
        async with linked(tmp_path) as (market, agent):
            await market.socket.send(b"\xff" * 20)
            await market.socket.wait_closed()
            await until(lambda: agent.report().link.error is None and agent.report().link.state == "live")


class TestTunnelRules:
    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"replica_id": "nobody"}, "no_replica"),
            ({"method": "DELETE"}, "protocol"),
            ({"path": "/drain"}, "protocol"),
            ({"method": "GET", "path": "/v1/generate"}, "protocol"),
            ({"path": "/v1/x\r\nEvil: 1"}, "protocol"),
        ],
    )
    async def test_what_is_not_served_is_reset(self, tmp_path, replica, changes, code):
        async with linked(tmp_path, replica) as (market, _):
            await market.open(**changes)
            assert (await market.reset()).code == code
        assert replica.exchanges == []

    async def test_an_open_that_cannot_be_read_is_reset(self, tmp_path, replica):
        async with linked(tmp_path, replica) as (market, _):
            await market.frame(FrameType.OPEN, 1, b"\xc1")
            assert (await market.reset()).code == "protocol"

    async def test_a_stream_id_in_use_ends_both(self, tmp_path, replica):
        async with linked(tmp_path, replica) as (market, agent):
            await market.open()
            await market.open()
            assert (await market.reset()).code == "protocol"
            assert agent.report().running == 0

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            ([(FrameType.DATA, b"")], "limit"),
            ([(FrameType.END, b""), (FrameType.END, b"")], "protocol"),
            ([(FrameType.END, b""), (FrameType.DATA, b"x")], "protocol"),
            ([(FrameType.HEAD, b"")], "protocol"),
            ([(FrameType.WINDOW, pack_credit(1))], "protocol"),
            ([(FrameType.WINDOW, b"")], "protocol"),
        ],
    )
    async def test_a_frame_out_of_place_resets_the_stream(self, tmp_path, replica, frames, code):
        async def wait(exchange):
            await exchange.gone.wait()

        replica.script = wait
        async with linked(tmp_path, replica) as (market, agent):
            await market.open()
            for kind, payload in frames:
                await market.frame(kind, 1, payload)
            assert (await market.reset()).code == code
            assert agent.report().running == 0

    async def test_a_request_id_cannot_add_a_header(self, tmp_path, replica):
        async with linked(tmp_path, replica) as (market, _):
            await market.open(request_id="x\r\nEvil: 1")
            await market.frame(FrameType.END, 1)
            await until(lambda: replica.exchanges)
        assert "evil" not in replica.exchanges[0].headers
        assert replica.exchanges[0].headers["x-request-id"] == "xEvil: 1"

    async def test_a_response_stops_at_the_window_and_goes_on_with_credit(self, tmp_path, replica):
        async def flood(exchange):
            exchange.raw(NDJSON_HEAD)
            piece = bytes(65_536)
            for _ in range(12):
                exchange.raw(b"%x\r\n%b\r\n" % (len(piece), piece))
            exchange.end()

        replica.script = flood
        async with linked(tmp_path, replica) as (market, _):
            await market.open()
            await market.frame(FrameType.END, 1)
            _, _, payload = await market.hear_frame(FrameType.HEAD)
            assert decode_head(payload).status == 200
            received = 0
            while received < WINDOW_BYTES:
                received += len((await market.hear_frame(FrameType.DATA))[2])
            assert received == WINDOW_BYTES
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await market.hear_frame(FrameType.DATA, FrameType.END)
            await market.frame(FrameType.WINDOW, 1, pack_credit(WINDOW_BYTES))
            while received < 2 * WINDOW_BYTES:
                received += len((await market.hear_frame(FrameType.DATA))[2])
            await market.frame(FrameType.WINDOW, 1, pack_credit(WINDOW_BYTES))
            kind = FrameType.DATA
            while kind is not FrameType.END:
                kind, _, payload = await market.hear_frame(FrameType.DATA, FrameType.END)
                received += len(payload)
            assert received == 12 * 65_536

    async def test_a_reset_closes_the_replicas_connection(self, tmp_path, replica):
        async def wait(exchange):
            await exchange.gone.wait()

        replica.script = wait
        async with linked(tmp_path, replica) as (market, agent):
            await market.open()
            await market.frame(FrameType.END, 1)
            await until(lambda: replica.exchanges)
            reset = Reset(code="cancelled", message="", fault=Fault.NONE)
            await market.frame(FrameType.RESET, 1, encode(reset))
            async with asyncio.timeout(30):
                await replica.exchanges[0].gone.wait()
            await until(lambda: agent.report().running == 0)

    async def test_a_lost_link_closes_every_replica_connection(self, tmp_path, replica):
        async def wait(exchange):
            await exchange.gone.wait()

        replica.script = wait
        async with linked(tmp_path, replica) as (market, _):
            for stream_id in range(1, 11):
                await market.open(stream_id)
                await market.frame(FrameType.END, stream_id)
            await until(lambda: len(replica.exchanges) == 10)
            market.socket.transport.abort()
            for exchange in replica.exchanges:
                async with asyncio.timeout(30):
                    await exchange.gone.wait()

    async def test_a_draining_agent_refuses_new_streams(self, tmp_path, replica):
        async def wait(exchange):
            await exchange.gone.wait()

        replica.script = wait
        async with linked(tmp_path, replica) as (market, agent):
            await market.open()
            await market.frame(FrameType.END, 1)
            await until(lambda: replica.exchanges)
            agent.stop()
            await market.hear(GoAway)
            await market.open(2)
            assert (await market.reset()).code == "draining"

    async def test_heartbeats_count_what_runs(self, tmp_path, replica):
        async def wait(exchange):
            await exchange.gone.wait()

        replica.script = wait
        async with linked(tmp_path, replica) as (market, _):
            await market.open()
            await market.frame(FrameType.END, 1)
            async with asyncio.timeout(30):
                while (await market.hear(Heartbeat)).running != {"replica-1": 1}:
                    pass


class TestBundles:
    async def test_the_agent_obeys_each_frame_of_a_bundle(self, tmp_path, replica):
        async with linked(tmp_path, replica) as (market, _):
            opening = OpenRequest(
                replica_id="replica-1", method="POST", path="/v1/x", request_id="r", deadline_ms=5_000
            )
            frames = [
                pack_frame(FrameType.OPEN, 1, encode(opening)),
                pack_frame(
                    FrameType.DATA,
                    1,
                    encode_json(GenerateRequest(sampling=Sampling(max_tokens=3), prompt="hi")),
                ),
                pack_frame(FrameType.END, 1),
            ]
            await market.socket.send(pack_bundle(frames))
            await market.hear_frame(FrameType.END)

    async def test_the_agent_says_that_it_takes_bundles(self, tmp_path):
        said = []

        async def hear(market):
            await market.hear(Enrol)
            await market.say(Enrolled(node_id="node_" + "1" * 32))
            said.append(await market.hear(Hello))

        async with hand_market(hear) as (where, _), agent_at(where, tmp_path / "node"):
            await until(lambda: said)
        assert said[0].bundles
