"""A wire to a replica that is cut after so many bytes of its answer, in the middle of whatever comes then."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class CutProxy:
    """Forwards connections to `target`; the next answer is cut after `cut_after` bytes, the ones after it are whole."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.cut_after: int | None = None
        self.cuts = 0

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        back, there = await asyncio.open_connection(self._host, self._port)
        asking = asyncio.ensure_future(_copy(reader, there))
        try:
            while data := await back.read(65_536):
                if self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
                writer.write(data)
                await writer.drain()
                if self.cut_after is not None and self.cut_after <= 0:
                    self.cut_after = None
                    self.cuts += 1
                    break
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            # What was written goes out, then the connection ends.
            writer.close()
            there.transport.abort()

    async def close(self) -> None:
        """End what still runs."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def cut_proxy(target: str) -> AsyncIterator[CutProxy]:
    """A proxy on a port of the system's choice."""
    proxy = CutProxy(target)
    server = await asyncio.start_server(proxy.forward, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
