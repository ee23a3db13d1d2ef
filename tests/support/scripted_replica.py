"""A stand-in for a provider's replica: a real HTTP server that speaks wire.replica and misbehaves on demand.

A script is a coroutine that gets an `Exchange` and writes whatever it wants, byte by byte if need be.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import (
    ErrorBody,
    ErrorEvent,
    FinishEvent,
    GenerateRequest,
    PromptEvent,
    StepEvent,
    Usage,
    decode_generate_request,
    encode,
)

REVISION = "sha256:" + "ab" * 32
SECRET = "replica-secret"
NDJSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"

Script = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request and the pen to answer it with."""

    def __init__(
        self, transport: asyncio.Transport, body: bytes, headers: dict[str, str], gone: asyncio.Event
    ) -> None:
        self.transport = transport
        self.body = body
        self.headers = headers
        self.gone = gone
        """Set when the gateway has closed the connection."""
        self.steps = 0
        self.tokens = 0

    @property
    def request(self) -> GenerateRequest:
        return decode_generate_request(self.body)

    def raw(self, data: bytes) -> None:
        self.transport.write(data)

    def head(self) -> None:
        self.raw(NDJSON_HEAD)

    def line(self, data: bytes) -> None:
        """One NDJSON line as one HTTP chunk."""
        self.raw(b"%x\r\n%b\n\r\n" % (len(data) + 1, data))

    def event(self, event: msgspec.Struct) -> None:
        self.line(encode(event))

    def prompt(self, ids: Sequence[int] = (1, 2, 3)) -> None:
        self.head()
        self.event(PromptEvent(ids=tuple(ids)))

    def step(self, text: str = "tok ", ids: Sequence[int] = (7,), **changes: object) -> None:
        """One honest step, unless `changes` say otherwise."""
        self.tokens += len(ids)
        honest = StepEvent(i=self.steps, t=tuple(ids), n=self.tokens, d=text)
        self.event(msgspec.structs.replace(honest, **changes))
        self.steps += 1

    def end(self) -> None:
        self.raw(b"0\r\n\r\n")

    def finish(
        self, reason: FinishReason = FinishReason.LENGTH, *, revision: str = REVISION, cached: int = 0
    ) -> None:
        usage = Usage(prompt=3, completion=self.tokens, cached=cached)
        self.event(FinishEvent(finish=reason, usage=usage, revision=revision, engine="scripted 1"))
        self.end()

    def fail(self, message: str = "the engine failed", fault: Fault = Fault.PROVIDER) -> None:
        self.event(ErrorEvent(message=message, fault=fault))
        self.end()

    def reply(self, reply: msgspec.Struct) -> None:
        """A whole answer in one piece, as embeddings have it."""
        body = encode(reply) + b"\n"
        self.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def refuse(self, status: int, message: str, fault: Fault, param: str | None = None) -> None:
        body = encode(ErrorBody(message=message, fault=fault, param=param))
        self.raw(b"HTTP/1.1 %d No\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    def cut(self) -> None:
        """Die: the connection is reset."""
        self.transport.abort()


async def answer(exchange: Exchange) -> None:
    """The honest script: as many tokens as are allowed, "tok " each."""
    exchange.prompt()
    for _ in range(exchange.request.sampling.max_tokens):
        exchange.step()
    exchange.finish()


class ScriptedReplica:
    """The server. `script` serves every request that `scripts` (one each, in order) does not."""

    def __init__(self, script: Script = answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self._tls = tls
        self.scripts: list[Script] = []
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()

    @property
    def address(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Wire(self), "127.0.0.1", 0, ssl=self._tls
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for transport in tuple(self._transports):
            transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def serve(self, exchange: Exchange) -> "asyncio.Task[None]":
        self.exchanges.append(exchange)
        script = self.scripts.pop(0) if self.scripts else self.script
        task = asyncio.ensure_future(script(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Wire(asyncio.Protocol):
    """One connection: requests of known length, one after the other."""

    def __init__(self, replica: ScriptedReplica) -> None:
        self._replica = replica
        self._buffer = b""
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._replica.connections += 1
        self._replica._transports.add(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers["content-length"])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if headers.get("authorization") != f"Bearer {SECRET}":
            self._transport.write(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")
            return
        self._replica.serve(Exchange(self._transport, rest[:length], headers, self._gone))

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
        self._replica._transports.discard(self._transport)
