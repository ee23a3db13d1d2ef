"""The HTTP edge against clients that are slow, large or ambiguous, over raw sockets."""

import asyncio
import contextlib

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from raymart_marketplace.gateway.http_server import HttpServerProtocol
from support.gateway_market import serving

TIMEOUT_S = 0.3


@pytest.fixture
async def port(monkeypatch):
    monkeypatch.setattr(HttpServerProtocol, "receipt_timeout_s", TIMEOUT_S)

    async def echo(request):
        return PlainTextResponse(str(len(await request.body())))

    async def stream(request):
        async def pieces():
            for _ in range(4):
                await asyncio.sleep(TIMEOUT_S / 2)
                yield "x"

        return StreamingResponse(pieces())

    async def socket(websocket):
        await websocket.accept()
        await asyncio.sleep(TIMEOUT_S * 2)
        await websocket.send_text("still here")
        await websocket.close()

    app = Starlette(
        routes=[
            Route("/echo", echo, methods=["POST", "GET"]),
            Route("/stream", stream),
            WebSocketRoute("/socket", socket),
        ]
    )
    async with serving(app) as url:
        yield int(url.rpartition(":")[2])


async def talk(port: int, *pieces: bytes, pause_s: float = 0.0, until: bytes = b"<never>") -> bytes:
    """Send `pieces` and return all that comes until the server closes, or until what is in `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(10):
                while chunk := await reader.read(65536):
                    answer += chunk
                    if until in answer:
                        return answer
                answer += b"<closed>"
        return answer
    finally:
        writer.close()


HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
LAST = HEAD + b"Connection: close\r\n"


class TestReceipt:
    @pytest.mark.parametrize(
        "pieces",
        [
            [],
            [b"POST /echo HT"],
            [HEAD],
            [HEAD, *[b"x-a: b\r\n"] * 3],
            [HEAD + b"content-length: 1000\r\n\r\n{"],
            [HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n"],
        ],
    )
    async def test_a_request_that_does_not_arrive_in_time_loses_its_connection(self, port, pieces):
        assert await talk(port, *pieces, pause_s=0.01) in (b"", b"<closed>")

    async def test_the_second_request_of_a_connection_is_timed_too(self, port):
        answer = await talk(port, HEAD + b"content-length: 2\r\n\r\nab", HEAD, pause_s=0.05)
        assert b"200 OK" in answer
        assert answer.endswith(b"2<closed>")

    async def test_a_request_in_pieces_is_served_within_the_time(self, port):
        answer = await talk(port, LAST, b"content-length: 4\r\n\r\n", b"ab", b"cd", pause_s=0.02)
        assert b"\r\n\r\n4" in answer

    async def test_a_long_answer_is_not_timed(self, port):
        answer = await talk(port, b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.count(b"1\r\nx\r\n") == 4

    async def test_a_websocket_is_not_timed(self, port):
        upgrade = (
            b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await talk(port, upgrade, until=b"still here")
        assert b"101 Switching Protocols" in answer
        assert b"still here" in answer


class TestHead:
    async def test_a_head_that_never_ends_is_431(self, port):
        answer = await talk(port, HEAD + b"x: " + b"a" * 40_000)
        assert answer.startswith(b"HTTP/1.1 431")

    async def test_a_large_head_in_one_piece_is_431(self, port):
        answer = await talk(port, b"GET /echo HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 40_000 + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")

    async def test_a_long_target_is_431(self, port):
        answer = await talk(port, b"GET /echo?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")

    async def test_a_large_body_is_no_large_head(self, port):
        answer = await talk(port, LAST + b"content-length: 90000\r\n\r\n" + b"a" * 90_000)
        assert b"\r\n\r\n90000" in answer

    @pytest.mark.parametrize(
        "raw",
        [
            b"GET /echo HTTP/1.1\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /echo HTTP/1.1\nHost: x\n\n",
            HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
            HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            HEAD + b"Content-Length: -1\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost : x\r\n\r\n",
        ],
    )
    async def test_what_two_parsers_could_read_differently_is_400(self, port, raw):
        answer = await talk(port, raw)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.endswith(b"<closed>")
