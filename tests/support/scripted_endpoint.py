"""Endpoints of Solana that answer what a test says: other people's nodes at their worst."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from raymart_billing.solana.transport import Answerer, JsonObject

GENESIS = "11111111111111111111111111111111"


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


@contextlib.asynccontextmanager
async def http_endpoint(response: bytes, *, is_silent: bool = False) -> AsyncIterator[str]:
    """The address of a server that sends `response` to whoever asks, as it is, and hangs up unless `is_silent`."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        if is_silent:
            await is_over.wait()

    async with serving(answer) as url:
        try:
            yield f"{url}/key-of-ours"
        finally:
            is_over.set()
