"""The server is to stop: what was begun is finished, and nothing waits for nobody."""

import asyncio
import contextlib

import pytest

from support.gateway_market import serving
from support.http_line import Line


class Server:
    """A server that can be told to stop while clients are connected."""

    def __init__(self, application, lines):
        self.application = application
        self._lines = lines
        self._stack = contextlib.AsyncExitStack()

    async def start(self):
        url = await self._stack.enter_async_context(serving(self.application))
        self.port = int(url.rpartition(":")[2])
        return self

    async def dial(self) -> Line:
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        self._lines.callback(line.writer.close)
        return line

    def stop(self) -> asyncio.Task:
        return asyncio.create_task(self._stack.aclose())


@pytest.fixture
async def server(application):
    with contextlib.ExitStack() as lines:
        server = await Server(application, lines).start()
        yield server
        application.go_on.set()
    await server.stop()


async def refused(port: int) -> None:
    """Wait until nobody accepts any more."""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.01)


async def is_draining(server: Server) -> None:
    """Wait until connections know: those that are idle are closed."""
    await refused(server.port)
    await asyncio.sleep(0.05)


class TestDraining:
    async def test_a_stream_is_finished_then_its_connection_ends(self, server, application):
        line = await server.dial()
        line.ask("/stream")
        await application.reached.wait()
        stopping = server.stop()
        await is_draining(server)
        application.go_on.set()
        assert (await line.answer())[2] == b"onetwothree"
        assert await line.rest() == b""
        await stopping

    async def test_an_answer_that_begins_now_says_that_it_is_the_last(self, server, application):
        line = await server.dial()
        line.ask("/waits-or-answers")
        await application.reached.wait()
        stopping = server.stop()
        await is_draining(server)
        application.go_on.set()
        _, headers, body = await line.answer()
        assert (headers[b"connection"], body) == (b"close", b"done")
        assert await line.rest() == b""
        await stopping

    async def test_an_idle_connection_ends_at_once(self, server):
        line = await server.dial()
        line.ask("/echo")
        assert (await line.answer())[0] == 200
        stopping = server.stop()
        assert await line.rest() == b""
        await stopping

    async def test_a_request_that_has_begun_to_come_is_served(self, server):
        line = await server.dial()
        line.say(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-len")
        other = await server.dial()
        other.ask("/echo")
        await other.answer()  # What the first one said has been read by now.
        stopping = server.stop()
        await is_draining(server)
        line.say(b"gth: 2\r\n\r\nok")
        _, headers, body = await line.answer()
        assert (headers[b"connection"], body) == (b"close", b"ok")
        await stopping

    async def test_a_connection_that_says_nothing_holds_nobody_up(self, server):
        line = await server.dial()
        stopping = server.stop()
        assert await line.rest() == b""
        await stopping
