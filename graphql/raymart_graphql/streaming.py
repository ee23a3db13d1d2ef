"""Answers that arrive in parts: server-sent events and multipart/mixed.

Sources: graphql-sse's PROTOCOL.md, "distinct connections mode"; the incremental delivery draft over multipart/mixed.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from graphql.execution import InitialIncrementalExecutionResult, SubsequentIncrementalExecutionResult
from starlette.datastructures import MutableHeaders
from starlette.types import Receive, Scope, Send
from strawberry.http import process_result
from strawberry.types.execution import ExecutionResult

log = structlog.get_logger()

HEARTBEAT_S = 15.0
"""Longest silence of a stream: proxies close a connection after 30 to 60 s without a byte."""
SEND_TIMEOUT_S = 20.0
"""How long a client may leave a part unread before its operation is given up, which stops a generation."""
BOUNDARY = "-"

Frame = ExecutionResult | InitialIncrementalExecutionResult | SubsequentIncrementalExecutionResult
Frames = AsyncGenerator[Frame, None]
"""Results of one operation. Closing it stops the operation's work."""


class Streamed(ABC):
    """An ASGI response that sends each result when it is there. When the client leaves, its operation is closed."""

    media_headers: Mapping[str, str]

    def __init__(
        self,
        frames: Frames,
        *,
        begun: asyncio.Event,
        late_headers: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:
        """Send `frames`; their headers wait until the operation has `begun`, and are known then."""
        self._frames = frames
        self._begun = begun
        self._late_headers = late_headers
        self._formatter = _Formatter()
        self.headers = MutableHeaders(headers=dict(self.media_headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the operation ends or the client has left."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stopped(leaving, sending)
            await self._frames.aclose()

    async def _send(self, send: Send) -> None:
        parts: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)
        reading = asyncio.ensure_future(self._read(parts))
        try:
            await self._begun.wait()
            self.headers.update(await self._late_headers())
            await send({"type": "http.response.start", "status": 200, "headers": self.headers.raw})
            await send({"type": "http.response.body", "body": self._opening().encode(), "more_body": True})
            while (part := await self._next(parts)) is not None:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.info("stream.client_stalled", timeout_s=SEND_TIMEOUT_S)
        finally:
            await stopped(reading)

    async def _read(self, parts: "asyncio.Queue[str | None]") -> None:
        """One task runs the operation from end to end: its time limits must not change tasks on the way."""
        try:
            async for frame in self._frames:
                self._begun.set()
                await parts.put(self._part(msgspec.json.encode(self._formatter.formatted(frame)).decode()))
            await parts.put(self._ending())
        except Exception:
            # The schema answers for what fails in it. The missing end tells the client that this is not all.
            log.exception("stream.failed")
        finally:
            self._begun.set()
        await parts.put(None)

    async def _next(self, parts: "asyncio.Queue[str | None]") -> str | None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await parts.get()
        except TimeoutError:
            return self._heartbeat()

    @abstractmethod
    def _opening(self) -> str:
        """What goes before the first result."""

    @abstractmethod
    def _part(self, result: str) -> str:
        """One result, which is JSON without line breaks."""

    @abstractmethod
    def _heartbeat(self) -> str:
        """What keeps a silent connection open."""

    @abstractmethod
    def _ending(self) -> str:
        """What goes after the last result."""


class EventStream(Streamed):
    """Server-sent events: `next` per result, then `complete`."""

    media_headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",  # nginx would hold small events back.
    }

    def _opening(self) -> str:
        return ":\n\n"

    def _part(self, result: str) -> str:
        return f"event: next\ndata: {result}\n\n"

    def _heartbeat(self) -> str:
        return ":\n\n"

    def _ending(self) -> str:
        # Browsers drop an event without a data line.
        return "event: complete\ndata: \n\n"


class Multipart(Streamed):
    """multipart/mixed: a part per result; a client knows that a part is whole by the boundary after it."""

    media_headers = {
        "content-type": f'multipart/mixed; boundary="{BOUNDARY}"',
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }

    def _opening(self) -> str:
        return f"--{BOUNDARY}"

    def _part(self, result: str) -> str:
        return f"\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{result}\r\n--{BOUNDARY}"

    def _heartbeat(self) -> str:
        # An empty part that has more to come, as Apollo's protocol for subscriptions has it.
        return self._part("{}")

    def _ending(self) -> str:
        return "--\r\n"


class _Formatter:
    """Results as JSON values. Each later part says where it belongs, for clients of the older draft as well."""

    def __init__(self) -> None:
        self._pending: dict[str, Any] = {}

    def formatted(self, frame: Frame) -> Mapping[str, Any]:
        """The result as both drafts spell it."""
        if isinstance(frame, ExecutionResult):
            return dict(process_result(frame))
        self._pending |= {found.id: found for found in frame.pending or ()}
        shown: dict[str, Any] = dict(frame.formatted)
        if not shown.get("extensions"):
            shown.pop("extensions", None)
        for part in shown.get("incremental") or ():
            place = self._pending[part["id"]]
            part["path"] = [*place.path, *part.get("subPath", ())]
            if place.label is not None:
                part["label"] = place.label
        return shown


async def left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def stopped(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel what still runs, and wait for it: what is cancelled may still have to settle its bill."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
