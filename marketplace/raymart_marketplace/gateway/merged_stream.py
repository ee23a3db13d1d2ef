"""One stream of several choices, as they come. A choice that fails is told of in its place; the others go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import msgspec

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.answers import TOGETHER_MAX, Events
from raymart_marketplace.gateway.chunks import Chunks, MakeChunks
from raymart_marketplace.gateway.events import (
    Broken,
    Delta,
    Finished,
    InferenceEvent,
    Resumed,
    Started,
    Waiting,
)
from raymart_marketplace.gateway.resumption import KEEPALIVE

_WAITING_MAX = 64
"""Events that wait for the client; the engines wait with them."""

_Queue = asyncio.Queue[tuple[int, InferenceEvent | DomainError]]


class MergedStream:
    """Writes the choices of one answer. `run` it once."""

    def __init__(
        self,
        chunks: MakeChunks,
        *,
        begin: Callable[[Started], Awaitable[None]],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """`begin` is called at the first token of all, `write` with each piece of the body but the last."""
        self._make = chunks
        self._begin = begin
        self._write = write
        self._chunks: dict[int, Chunks] = {}
        self._first: Started | None = None
        self._ended: list[Finished | Broken] = []
        self._unbegun: dict[int, DomainError] = {}

    async def run(self, choices: Sequence[Events], *, note: Callable[[Chunks], bytes]) -> bytes:
        """Write all of `choices`; returns the last piece, which begins with `note`. Raises: the first one's error when none began."""
        waiting: _Queue = asyncio.Queue(_WAITING_MAX)
        gate = asyncio.Semaphore(TOGETHER_MAX)
        async with asyncio.TaskGroup() as tasks:
            for index, events in enumerate(choices):
                tasks.create_task(_feed(index, events, waiting, gate))
            while len(self._ended) + len(self._unbegun) < len(choices):
                index, event = await waiting.get()
                data = await self._take(index, event)
                if data:
                    await self._write(data)
        if self._first is None:
            raise self._unbegun[min(self._unbegun)]
        first = self._first
        rest = [self._make(first, index).failed(error) for index, error in sorted(self._unbegun.items())]
        chunks = next(iter(self._chunks.values()))
        return b"".join(rest) + note(chunks) + chunks.close(self._ended)

    async def _take(self, index: int, event: InferenceEvent | DomainError) -> bytes:
        if isinstance(event, Delta):
            return self._chunks[index].delta(event)
        if isinstance(event, Waiting):
            return KEEPALIVE
        if isinstance(event, Resumed):
            self._chunks[index].resume(event)
            return b""
        if isinstance(event, DomainError):
            self._unbegun[index] = event
            return b""
        if isinstance(event, Started):
            return await self._started(index, event)
        self._ended.append(event)
        chunks = self._chunks[index]
        return chunks.finish(event) if isinstance(event, Finished) else chunks.failed(event.error)

    async def _started(self, index: int, started: Started) -> bytes:
        if self._first is None:
            self._first = started
            await self._begin(started)
        # All chunks of an answer have one id.
        named = msgspec.structs.replace(
            started, request_id=self._first.request_id, created_at=self._first.created_at
        )
        self._chunks[index] = self._make(named, index)
        return self._chunks[index].role()


async def _feed(index: int, events: Events, waiting: _Queue, gate: asyncio.Semaphore) -> None:
    """Put what one choice tells into `waiting`."""
    async with gate, aclosing(events):
        try:
            async for event in events:
                await waiting.put((index, event))
        except DomainError as error:
            await waiting.put((index, error))
