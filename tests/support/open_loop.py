"""Requests at fixed moments, whatever becomes of the earlier ones, at a tenth of a real client's cost.

What is measured of each is the time from its moment: a client that is late itself makes no answer look quicker.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """One request and its answer."""

    at_s: float
    """When it was due, from the beginning of the load."""
    took_s: float
    status: int
    """0 for a connection that was lost."""
    retry_after: str
    """The header's value; empty without one."""


class OpenLoop:
    """Sends the same request again and again over connections that are kept."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = host, port
        self._request = request
        self._idle: deque[_Connection] = deque()

    async def send(self, *, rate_per_s: float, seconds: float) -> list[Answered]:
        """One request every 1/`rate_per_s` seconds; returns when the last is answered."""
        began = time.perf_counter()
        tasks = []
        for number in range(int(rate_per_s * seconds)):
            due = began + number / rate_per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._one(due, began)))
        return list(await asyncio.gather(*tasks))

    async def saturate(self, *, at_once: int, seconds: float) -> list[Answered]:
        """So many at once, each followed by the next, for a while."""
        began = time.perf_counter()
        found: list[Answered] = []

        async def one_after_the_other() -> None:
            while (now := time.perf_counter()) - began < seconds:
                found.append(await self._one(now, began))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_the_other())
        return found

    def close(self) -> None:
        """Drop the connections."""
        while self._idle:
            self._idle.popleft().transport.close()

    async def _one(self, due: float, began: float) -> Answered:
        status, retry_after, connection = 0, "", self._kept()
        if connection is not None:
            status, retry_after = await connection.ask(self._request)
        if (
            not status
        ):  # None was kept, or the server closed it as the request went out: as clients do, a new one.
            connection = await self._connect()
            status, retry_after = await connection.ask(self._request)
        if status and connection is not None:
            self._idle.append(connection)
        return Answered(due - began, time.perf_counter() - due, status, retry_after)

    def _kept(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        _, protocol = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return protocol


class _Connection(asyncio.Protocol):
    """One request at a time; answers have a Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.is_closed = False
        self._answer: asyncio.Future[tuple[int, str]] | None = None

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, str]]":
        self._answer = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        headers = dict(line.lower().partition(b": ")[::2] for line in head.split(b"\r\n")[1:])
        if len(body) >= int(headers[b"content-length"]):
            self._end(int(head[9:12]), headers.get(b"retry-after", b"").decode())

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        self._end(0, "")

    def _end(self, status: int, retry_after: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result((status, retry_after))
