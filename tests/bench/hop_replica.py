"""One Serve replica that streams the same tokens in two ways: through Serve's handle, and from its own port as ours do."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence

from raymart_core.units import FinishReason
from raymart_core.wire.replica import (
    NO_OPTIONS,
    ChatMessage,
    GenerationOptions,
    Health,
    Sampling,
    Stats,
    Usage,
)
from raymart_serve.engines.protocol import (
    EngineHealth,
    EngineStats,
    GenerationEvent,
    GenerationFinish,
    GenerationStep,
)
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer
from raymart_serve.replica.routes import Routes

PACE_S = 0.01
SECRET = "bench"
_STATS = Stats(running=0, waiting=0, capacity=64, tokens_generated_total=0, requests_aborted_total=0)


async def paced_tokens(count: int) -> AsyncIterator[str]:
    """A token each `PACE_S`."""
    for number in range(count):
        await asyncio.sleep(PACE_S)
        yield f" t{number:05d}"


class PacedEngine:
    """An engine whose tokens cost nothing."""

    label = "paced 1"
    context_length = 4_096
    capacity = 64

    async def load(self, progress: Callable[[int], None]) -> None:
        progress(100)

    async def warm_up(self) -> None:
        """Nothing to warm."""

    async def health(self) -> EngineHealth:
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        return EngineStats(running=0, waiting=0, tokens_generated_total=0, requests_aborted_total=0)

    async def close(self) -> None:
        """Nothing to free."""

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS
    ) -> tuple[int, ...]:
        return await self.encode_prompt("")

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        return tuple(range(100, 142))

    @contextlib.asynccontextmanager
    async def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AsyncIterator[AsyncIterator[GenerationEvent]]:
        yield self._events(len(prompt_ids), sampling.max_tokens)

    async def _events(self, prompt: int, count: int) -> AsyncIterator[GenerationEvent]:
        done = 0
        async for text in paced_tokens(count):
            done += 1
            yield GenerationStep(ids=(1_000 + done,), count=done, text=text)
        yield GenerationFinish(reason=FinishReason.LENGTH, usage=Usage(prompt=prompt, completion=done))


class HopReplica:
    """What Serve runs, and what our routes need to know of a replica."""

    accepting = True
    revision = "sha256:" + "ab" * 32

    async def __init__(self) -> None:  # type: ignore[misc] # Serve awaits it
        self.engine = PacedEngine()
        self._server = HttpServer(Routes(self), secret=SECRET, limits=HttpLimits())
        self._address = await self._server.start("127.0.0.1")

    async def tokens(self, count: int) -> AsyncIterator[str]:
        """Through Serve's handle."""
        async for text in paced_tokens(count):
            yield text

    async def where(self) -> tuple[int, str]:
        """The process's id, and the address of its port."""
        return os.getpid(), self._address

    async def health(self) -> Health:
        return Health(state="ready")

    def stats(self) -> Stats:
        return _STATS

    def drain(self) -> None:
        """Never asked to."""
