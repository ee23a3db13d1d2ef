"""Bundles on a live link: only to a node that takes them, and each of their frames under the rules of any frame."""

import asyncio

import pytest

from raymart_core.wire.bundle import pack_bundle, unpack_message
from raymart_core.wire.link import (
    FrameType,
    Heartbeat,
    ResponseHead,
    encode,
    pack_frame,
)
from support.link_market import until
from support.raw_node import again, live_node

HEAD = encode(ResponseHead(status=200, content_type="application/x-ndjson"))


async def bundle(node, *frames):
    await node.socket.send(pack_bundle([pack_frame(*frame) for frame in frames]))


async def frames_of_next_request(node):
    """What the node is sent in the message that opens a stream."""
    async with asyncio.timeout(30):
        while (frames := unpack_message(await node.socket.recv()))[0][0] is not FrameType.OPEN:
            pass
    return frames


async def posting(market, supply, node, *, body=b"{}"):
    await node.announce(supply)
    await until(lambda: market.directory.live(supply.model_slug))
    (endpoint,) = market.directory.live(supply.model_slug)
    lease = market.directory.acquire(endpoint.id)
    return asyncio.ensure_future(
        lease.upstream.post("/v1/generate", body, request_id="req_1", deadline_ms=5_000)
    )


class TestToTheNode:
    async def test_a_node_that_takes_bundles_gets_a_whole_request_in_one_message(self, market, supply):
        async with live_node(market, supply) as former, again(market, former) as node:
            assert (await node.prove(bundles=True)).bundles
            pending = await posting(market, supply, node)
            kinds = [kind for kind, _, _ in await frames_of_next_request(node)]
            pending.cancel()
        assert kinds == [FrameType.OPEN, FrameType.DATA, FrameType.END]

    async def test_a_node_that_said_nothing_of_bundles_gets_frame_by_frame(self, market, supply):
        async with live_node(market, supply) as node:
            pending = await posting(market, supply, node)
            kinds = [kind for kind, _, _ in await frames_of_next_request(node)]
            pending.cancel()
        assert kinds == [FrameType.OPEN]


class TestFromTheNode:
    async def test_an_answer_in_one_message_arrives_whole(self, market, supply):
        async with live_node(market, supply) as node:
            pending = await posting(market, supply, node)
            stream_id, _ = await node.hear_kind(FrameType.OPEN)
            await bundle(
                node,
                (FrameType.HEAD, stream_id, HEAD),
                (FrameType.DATA, stream_id, b"one"),
                (FrameType.DATA, stream_id, b"two"),
                (FrameType.END, stream_id),
            )
            response = await pending
            body = b"".join([chunk async for chunk in response.chunks()])
        assert (response.status, body) == (200, b"onetwo")

    async def test_a_stream_broken_in_a_bundle_leaves_its_neighbours_alone(self, market, supply):
        async with live_node(market, supply) as node:
            good, bad = await posting(market, supply, node), await posting(market, supply, node)
            first, _ = await node.hear_kind(FrameType.OPEN)
            second, _ = await node.hear_kind(FrameType.OPEN)
            await bundle(
                node,
                (FrameType.DATA, second, b"before its head"),
                (FrameType.HEAD, first, HEAD),
                (FrameType.DATA, first, b"all"),
                (FrameType.END, first),
            )
            body = b"".join([chunk async for chunk in (await good).chunks()])
            with pytest.raises(Exception, match="DATA before HEAD"):
                await bad
        assert body == b"all"

    async def test_control_messages_in_a_bundle_are_counted_one_by_one(self, market, supply):
        async with live_node(market, supply) as node:
            beat = (FrameType.CONTROL, 0, encode(Heartbeat(clock_ms=1)))
            await bundle(node, *[beat] * 1_000)
            refusal = await node.refusal()
        assert refusal.reason == "limit"

    async def test_a_torn_bundle_ends_the_link(self, market, supply):
        async with live_node(market, supply) as node:
            await node.socket.send(pack_bundle([pack_frame(FrameType.END, 1)])[:-1])
            assert (await node.refusal()).reason == "protocol"

    async def test_a_handshake_is_not_bundled(self, market, supply):
        async with live_node(market, supply) as former, again(market, former) as node:
            hello = pack_frame(FrameType.CONTROL, 0, encode(Heartbeat(clock_ms=1)))
            await node.socket.send(pack_bundle([hello, hello]))
            assert (await node.refusal()).reason == "protocol"
