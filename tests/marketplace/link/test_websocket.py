"""The WebSocket protocol of a process with links, by a real uvicorn: what it takes itself, and what it leaves to the general parser."""

import asyncio
import contextlib
import socket

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from raymart_core.wire.link import LINK_PATH
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.supply.link.websocket import LinkWebSocketProtocol
from support.link_market import until

MESSAGE_BYTES_MAX = 100_000
UNREAD_BYTES = 16 << 20
"""More than the kernel keeps of a loopback connection."""
OTHER_PATH = "/graphql"
UPGRADE = (
    f"GET {LINK_PATH} HTTP/1.1\r\nHost: market\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class Echo:
    """An ASGI app that says again what it hears, while `may_read`."""

    def __init__(self):
        self.may_accept = asyncio.Event()
        self.may_accept.set()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def __call__(self, scope, receive, send):
        await receive()
        await self.may_accept.wait()
        await send({"type": "websocket.accept"})
        while True:
            await self.may_read.wait()
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            await send({**message, "type": "websocket.send"})


class Server:
    def __init__(self, echo, server, port):
        self.echo = echo
        self._server = server
        self.port = port

    def dial(self, path=LINK_PATH):
        url = f"ws://127.0.0.1:{self.port}{path}"
        return connect(url, compression=None, ping_interval=None, proxy=None)

    @property
    def connections(self):
        """Those that have become WebSockets."""
        return [
            each for each in self._server.server_state.connections if isinstance(each, LinkWebSocketProtocol)
        ]

    @property
    def protocol(self):
        (protocol,) = self.connections
        return protocol


@contextlib.asynccontextmanager
async def serving(**settings):
    echo = Echo()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        echo,
        http=HttpServerProtocol,
        ws=LinkWebSocketProtocol,
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        **settings,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))
    await until(lambda: server.started)
    try:
        yield Server(echo, server, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def server():
    async with serving() as server:
        yield server


def frame(payload, opcode=Opcode.BINARY, *, fin=True, mask=True):
    return Frame(opcode, payload, fin).serialize(mask=mask)


async def heard(client):
    async with asyncio.timeout(30):
        return await client.recv()


class TestMessages:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, MESSAGE_BYTES_MAX])
    async def test_of_any_size_arrive_as_they_are(self, server, size):
        payload = bytes(range(256)) * (size // 256 + 1)
        async with server.dial() as client:
            await client.send(payload[:size])
            assert await heard(client) == payload[:size]
            assert server.protocol._cuts_frames

    async def test_that_come_byte_by_byte_are_put_together(self, server):
        sent = [b"short", b"x" * 300, b"after"]
        async with server.dial() as client:
            for byte in b"".join(frame(payload) for payload in sent):
                client.transport.write(bytes([byte]))
                await asyncio.sleep(0)
            assert [await heard(client) for _ in sent] == sent
            assert server.protocol._cuts_frames

    async def test_that_come_at_once_keep_their_order(self, server):
        sent = [str(number).encode() for number in range(1_000)]
        async with server.dial() as client:
            client.transport.write(b"".join(frame(payload) for payload in sent))
            assert [await heard(client) for _ in sent] == sent

    async def test_that_nobody_reads_are_not_taken_from_the_socket(self, server):
        payload, count = b"x" * 8_192, 2_000
        async with server.dial() as client:
            server.echo.may_read.clear()
            client.transport.write(frame(payload) * count)
            await until(lambda: server.protocol.read_paused)
            assert server.protocol.queue.qsize() < 100
            server.echo.may_read.set()
            assert [await heard(client) for _ in range(count)] == [payload] * count

    async def test_small_ones_are_taken_while_few_wait(self, server):
        async with server.dial() as client:
            server.echo.may_read.clear()
            client.transport.write(frame(b"x") * 17)
            await until(lambda: server.protocol.read_paused)
            server.echo.may_read.set()
            assert [await heard(client) for _ in range(17)] == [b"x"] * 17


class TestControlFrames:
    async def test_a_ping_is_answered_with_what_it_said(self, server):
        async with server.dial() as client, asyncio.timeout(30):
            await (await client.ping(b"are you there"))
            assert server.protocol._cuts_frames

    async def test_a_pong_that_nobody_asked_for_is_let_pass(self, server):
        async with server.dial() as client:
            await client.pong(b"here I am")
            await client.send(b"after")
            assert await heard(client) == b"after"
            assert server.protocol._cuts_frames

    async def test_a_close_is_answered(self, server):
        async with server.dial() as client:
            await client.close(4_321, "done")
        assert client.close_code == 4_321

    async def test_a_ping_behind_a_close_is_not_answered(self, server):
        async with server.dial() as client:
            client.transport.write(frame(b"\x10\xe1", Opcode.CLOSE) + frame(b"late", Opcode.PING))
            async with asyncio.timeout(30):
                await client.wait_closed()
        assert client.close_code == 4_321


class TestShutdown:
    async def test_a_connection_that_is_closing_does_not_stop_it(self):
        """The client has closed and reads no more: what was sent before waits, and with it the connection's end."""
        async with serving() as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
            writer.write(UPGRADE)
            await until(lambda: server.connections and server.protocol.handshake_complete)
            server.protocol.transport.write(b"x" * UNREAD_BYTES)
            writer.write(frame(b"\x03\xe8", Opcode.CLOSE))
            await until(lambda: server.protocol.conn.state is State.CLOSING)
        writer.close()


class TestTheGeneralParser:
    async def test_puts_a_fragmented_message_together_and_takes_all_that_follows(self, server):
        async with server.dial() as client:
            await client.send(b"before")
            await client.send([b"one ", b"two ", b"three"])
            await client.send(b"after")
            assert [await heard(client) for _ in range(3)] == [b"before", b"one two three", b"after"]
            assert not server.protocol._cuts_frames

    async def test_goes_on_with_a_frame_that_began_before_the_link_was_accepted(self, server):
        server.echo.may_accept.clear()
        # Taken for the beginning of a frame, the second part would be an empty message.
        second = bytes([0x82, 0x80, 0, 0, 0, 0])
        first = bytes([0x82, 0x80 | len(second), 0, 0, 0, 0])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(UPGRADE)
        await until(lambda: server.connections and server.protocol.handshake_initiated)
        writer.write(first)
        await until(lambda: server.protocol._came_early)
        server.echo.may_accept.set()
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(second)
            assert await reader.readexactly(8) == frame(second, mask=False)
        writer.close()
        await writer.wait_closed()

    async def test_takes_text(self, server):
        async with server.dial() as client:
            await client.send("text")
            assert await heard(client) == "text"

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (frame(b"unmasked", mask=False), 1002),
            (frame(b"", Opcode.BINARY, fin=False) + frame(b"whole"), 1002),
            (frame(b"out of the blue", Opcode.CONT), 1002),
            (b"\x83" + frame(b"")[1:], 1002),
            (b"\xc2" + frame(b"compressed")[1:], 1002),
            (frame(b"x" * (MESSAGE_BYTES_MAX + 1)), 1009),
        ],
        ids=["unmasked", "within a message", "no beginning", "no opcode", "an extension", "too long"],
    )
    async def test_refuses_what_breaks_the_rules(self, server, sent, code):
        async with server.dial() as client:
            await client.send(b"before")
            assert await heard(client) == b"before"
            client.transport.write(sent)
            with pytest.raises(ConnectionClosedError):
                await heard(client)
        assert client.close_code == code

    async def test_has_every_other_path(self, server):
        async with server.dial(OTHER_PATH) as client:
            await client.send(b"message")
            assert await heard(client) == b"message"
            assert not server.protocol._cuts_frames


class TestKeepalive:
    async def test_a_link_is_not_pinged_and_others_are(self):
        pings = {LINK_PATH: 0, OTHER_PATH: 0}
        async with (
            serving(ws_ping_interval=0.02) as server,
            server.dial() as link,
            server.dial(OTHER_PATH) as other,
        ):
            for path, client in ((LINK_PATH, link), (OTHER_PATH, other)):
                count_pings(client, pings, path)
            await until(lambda: pings[OTHER_PATH] >= 3)
        assert pings[LINK_PATH] == 0


def count_pings(client, pings, path):
    take = client.protocol.recv_frame

    def counted(each):
        pings[path] += each.opcode is Opcode.PING
        take(each)

    client.protocol.recv_frame = counted
