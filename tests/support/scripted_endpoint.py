"""Endpoints of Solana that answer what a test says: other people's nodes at their worst."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from raymart_billing.solana.transport import Answerer, JsonObject

GENESIS = "11111111111111111111111111111111"

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def scripted(answers: Mapping[str, object] | Callable[[str], object], *, genesis: str = GENESIS) -> Answerer:
    """An endpoint within this process whose results are `answers`, by method. A raised exception is raised."""

    async def answer(request: JsonObject) -> JsonObject:
        method = str(request["method"])
        result = answers(method) if callable(answers) else answers.get(method)
        if method == "getGenesisHash" and result is None:
            result = genesis
        if isinstance(result, BaseException):
            raise result
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    return answer


def refusing(error: object) -> Answerer:
    """An endpoint whose every answer is the error `error`."""

    async def answer(request: JsonObject) -> JsonObject:
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    return answer


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[str]:
    """The address of a server that hands each connection to `handle`, and waits for all of them at its end."""
    handlers: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handle(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*(handler for handler in handlers if handler is not None))
        await server.wait_closed()


def _length_in(head: bytes) -> int:
    found = _LENGTH.search(head)
    assert found is not None, "a request without a body asks nothing"
    return int(found[1])


@contextlib.asynccontextmanager
async def http_endpoint(response: bytes, *, is_silent: bool = False) -> AsyncIterator[str]:
    """The address of a server that sends `response` to whoever asks, as it is, and hangs up unless `is_silent`."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        # All of it: who hangs up on what was not read resets the connection, and the answer may be lost with it.
        await reader.readexactly(_length_in(head))
        writer.write(response)
        await writer.drain()
        if is_silent:
            await is_over.wait()

    async with serving(answer) as url:
        try:
            yield f"{url}/key-of-ours"
        finally:
            is_over.set()
