"""The few lines of HTTP/1.1 that the checks need: one request on a connection of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; a chunked body is put together."""

    status: int
    content_type: str
    body: bytes


async def exchanged(
    port: tuple[str, str], method: str, path: str, body: bytes = b"", *, headers: str = ""
) -> Answer:
    """Send a request to `port` (address, secret) and read the whole answer."""
    async with asyncio.timeout(_TIMEOUT_S), opened(port, method, path, body, headers=headers) as reader:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if fields.get("transfer-encoding") == "chunked":
            content = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            content = await reader.readexactly(int(fields.get("content-length", "0")))
    return Answer(status=int(first.split()[1]), content_type=fields.get("content-type", ""), body=content)


@asynccontextmanager
async def opened(
    port: tuple[str, str], method: str, path: str, body: bytes = b"", *, headers: str = ""
) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request and read the answer as it comes; leaving closes the connection."""
    address, secret = port
    host, _, number = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(number), limit=1 << 20)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    try:
        writer.write(head.encode() + body)
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        chunk = await reader.readexactly(size + 2)
        yield chunk[:-2]
    await reader.readline()
