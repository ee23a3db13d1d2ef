"""A client of HTTP/1.1 that writes what it is told to, byte by byte."""

import asyncio


class Line:
    """A connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: x", *headers]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.say("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers of the next answer."""
        async with asyncio.timeout(30):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw[:-4].split(b"\r\n")
        return int(status.split()[1]), dict(line.split(b": ", 1) for line in lines)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The next answer, whole."""
        status, headers = await self.head()
        async with asyncio.timeout(30):
            if b"content-length" in headers:
                return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))
            body = b""
            if b"transfer-encoding" not in headers:
                return status, headers, body
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        return status, headers, body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(30):
            return await self.reader.read()
