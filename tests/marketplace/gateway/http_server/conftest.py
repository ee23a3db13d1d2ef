"""An application of many habits behind the server, and clients that write their bytes themselves."""

import asyncio
import contextlib

import pytest

from support.gateway_market import serving
from support.http_line import Line


class Application:
    """Answers by path; notes what it was told."""

    def __init__(self):
        self.asked = []
        self.left = asyncio.Event()
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.asked.append(scope)
        answer = getattr(self, scope["path"].strip("/").replace("-", "_"), None) or self.missing
        await answer(scope, receive, send)

    async def missing(self, scope, receive, send):
        await reply(send, b"missing", status=404)

    async def echo(self, scope, receive, send):
        await reply(send, await body_of(receive))

    async def asks_first(self, scope, receive, send):
        """Answers before it has read anything."""
        await reply(send, b"no", status=413)

    async def stream(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self.reached.set()
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"three"})

    async def begins(self, scope, receive, send):
        """A head, and then nothing for a while."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async def waits(self, scope, receive, send):
        """Waits for the client to leave."""
        await body_of(receive)
        self.reached.set()
        assert (await receive())["type"] == "http.disconnect"
        self.left.set()

    async def waits_for_all(self, scope, receive, send):
        """Waits for the whole body, which the client may not bring."""
        while (message := await receive())["type"] == "http.request":
            assert message["more_body"]
        self.left.set()

    async def answers_then_reads(self, scope, receive, send):
        """Asks for the body once its answer has begun."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def waits_or_answers(self, scope, receive, send):
        """Answers when told to."""
        self.reached.set()
        await self.go_on.wait()
        await reply(send, b"done")

    async def floods(self, scope, receive, send):
        """More than a client that does not read can be sent."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.sent = 0
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            self.sent += 65_536
        self.left.set()

    async def fails(self, scope, receive, send):
        raise LookupError("a bug")

    async def fails_late(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise LookupError("a bug")

    async def forgets(self, scope, receive, send):
        return

    async def injects(self, scope, receive, send):
        await reply(send, b"x", headers=[(b"x-a", b"b\r\nset-cookie: c")])

    async def promises_more(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"short"})

    async def named(self, scope, receive, send):
        await reply(send, b"x", headers=[(b"x-request-id", b"req_ours")])

    async def closes(self, scope, receive, send):
        await reply(send, b"x", headers=[(b"connection", b"close")])

    async def nothing(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def body_of(receive):
    """The whole body."""
    whole, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        whole, more = whole + message["body"], message["more_body"]
    return whole


async def reply(send, body, *, status=200, headers=()):
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def application():
    return Application()


@pytest.fixture
async def port(application):
    async with serving(application) as url:
        yield int(url.rpartition(":")[2])
    application.go_on.set()


@pytest.fixture
def dial(port):
    """Opens connections, and closes them after the test."""

    @contextlib.asynccontextmanager
    async def dialling():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()

    return dialling
