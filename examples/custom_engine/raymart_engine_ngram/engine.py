"""The engine: everything that `raymart_serve.engines.protocol.Generates` asks for, in about 200 lines.

What makes it one that can be relied on: nothing blocks the event loop (counting runs in a thread, generating yields
after each token), slots and queue are bounded, leaving frees the slot, and what is refused is refused before it runs.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version

from raymart_core.units import FinishReason
from raymart_core.wire.replica import NO_OPTIONS, ChatMessage, GenerationOptions, Sampling
from raymart_engine_ngram.model import END, VOCABULARY_SIZE, NgramModel, NotATextOfAnswers, draw
from raymart_engine_ngram.steps import StepMaker
from raymart_serve.engines.protocol import (
    EngineFailed,
    EngineHealth,
    EngineSpec,
    EngineStats,
    GenerationEvent,
    GenerationFinish,
    GenerationStep,
    PromptTooLong,
    RequestRefused,
)
from raymart_serve.engines.slots import SlotGate


class NgramEngine:
    """Implements `engines.protocol.Generates`. Making one loads nothing."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._gate = SlotGate(slots=spec.slots, waiting_max=spec.waiting_max)
        self._label = f"ngram {version('raymart-engine-ngram')}"
        self._model: NgramModel | None = None
        self._closed = False
        self._tokens_generated = 0
        self._requests_aborted = 0

    @property
    def label(self) -> str:
        """Name and version."""
        return self._label

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return self._spec.context_length

    @property
    def capacity(self) -> int:
        """Slots."""
        return self._spec.slots

    async def load(self, progress: Callable[[int], None]) -> None:
        """Count the text, in a thread. Raises: EngineFailed."""
        progress(0)
        self._model = await asyncio.to_thread(self._counted)
        progress(100)

    async def warm_up(self) -> None:
        """Generate two tokens. Raises: EngineFailed."""
        async with self.generate((0x51,), sampling=Sampling(max_tokens=2, ignore_eos=True)) as events:
            async for _ in events:
                pass
        self._tokens_generated = 0

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS
    ) -> tuple[int, ...]:
        """Questions and answers, as in the text that was counted. There are no tools. Raises: RequestRefused."""
        letters = {"user": "Q", "assistant": "A"}
        turns = [f"{letters[one.role]}: {one.content}" for one in messages if one.role in letters]
        if not turns:
            raise RequestRefused("there must be a user's message", param="messages")
        return tuple("\n".join([*turns, "A: "]).encode())

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """The bytes of `prompt`."""
        return tuple(prompt.encode())

    @asynccontextmanager
    async def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AsyncGenerator[AsyncIterator[GenerationEvent], None]:
        """See the protocol: entering waits for a slot, leaving frees it."""
        ids = [*prompt_ids, *resume_ids]
        model = self._checked(ids, options)
        await self._gate.acquire()
        counted = _Counted()
        try:
            async with aclosing(self._events(model, ids, sampling, counted)) as events:
                yield events
        finally:
            self._gate.release()
            self._tokens_generated += counted.tokens
            self._requests_aborted += not counted.finished

    async def health(self) -> EngineHealth:
        """Loading, then ready, and failing once it is closed."""
        if self._closed:
            return EngineHealth(state="failing", reason="the engine is closed")
        if self._model is None:
            return EngineHealth(state="loading", percent=0)
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        """Counters now."""
        return EngineStats(
            running=self._gate.running,
            waiting=self._gate.waiting,
            tokens_generated_total=self._tokens_generated,
            requests_aborted_total=self._requests_aborted,
        )

    async def close(self) -> None:
        """Running generations end at their next token with EngineFailed."""
        self._closed = True

    def _counted(self) -> NgramModel:
        try:
            return NgramModel(self._spec.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, NotATextOfAnswers) as error:
            raise EngineFailed(f"{self._spec.path.name!r} is no text of answers: {error}") from error

    def _checked(self, ids: Sequence[int], options: GenerationOptions) -> NgramModel:
        """The model, when it can take the request. Raises: EngineFailed, RequestRefused, PromptTooLong."""
        if self._model is None or self._closed:
            raise EngineFailed("the engine is closed" if self._closed else "load the model first")
        if options.response_format is not None:
            raise RequestRefused("this engine holds to no format", param="response_format")
        if options.tools and (options.tool_choice == "required" or options.tool_name is not None):
            raise RequestRefused("this engine calls no tools", param="tool_choice")
        if not ids:
            raise RequestRefused("the prompt has no tokens; give at least one", param="prompt")
        if not 0 <= min(ids) <= max(ids) < VOCABULARY_SIZE:
            raise RequestRefused(f"token ids must lie in 0..{VOCABULARY_SIZE - 1}", param="prompt_ids")
        if len(ids) >= self._spec.context_length:
            raise PromptTooLong(tokens_prompt=len(ids), context_length=self._spec.context_length)
        return self._model

    async def _events(
        self, model: NgramModel, ids: list[int], sampling: Sampling, counted: "_Counted"
    ) -> AsyncGenerator[GenerationEvent, None]:
        steps = StepMaker(sampling, tokens_prompt=len(ids))
        chance = random.Random(sampling.seed)  # noqa: S311 - it draws tokens, not secrets
        reason = FinishReason.LENGTH
        for _ in range(min(sampling.max_tokens, self._spec.context_length - len(ids))):
            await asyncio.sleep(self._spec.step_delay_s)
            if self._closed:
                raise EngineFailed("the engine was closed")
            distribution = model.following(ids)
            if sampling.ignore_eos:
                distribution = {token: share for token, share in distribution.items() if token != END}
            token = draw(distribution, temperature=sampling.temperature, top_p=sampling.top_p, chance=chance)
            if token == END:
                reason = FinishReason.STOP
                break
            ids.append(token)
            step = steps.add(token, distribution)
            if step is not None:
                yield counted.saw(step)
            if steps.stopped:
                reason = FinishReason.STOP
                break
        if not steps.stopped and (rest := steps.rest()) is not None:
            yield counted.saw(rest)
        yield counted.saw(steps.finish(reason))


class _Counted:
    """What of one generation was handed on."""

    def __init__(self) -> None:
        self.tokens = 0
        self.finished = False

    def saw(self, event: GenerationEvent) -> GenerationEvent:
        """Note `event` as handed on."""
        if isinstance(event, GenerationStep):
            self.tokens = event.count
        self.finished = self.finished or isinstance(event, GenerationFinish)
        return event
