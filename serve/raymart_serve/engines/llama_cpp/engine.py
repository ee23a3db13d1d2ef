"""llama.cpp in the replica's own process, through xllamacpp.

The library's calls block, so each generation runs in a thread of a pool as large as the slots, and its callback
feeds a bounded channel that the event loop reads. llama.cpp goes on computing while its callback waits; a slow
reader therefore holds its slot for at most one context's worth of tokens.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec

from raymart_core.wire.replica import NO_OPTIONS, ChatMessage, GenerationOptions, Sampling, Tool
from raymart_serve.engines.llama_cpp.cache_slots import CacheSlots
from raymart_serve.engines.llama_cpp.chunks import ChunkReader
from raymart_serve.engines.llama_cpp.embedder import Embedder, check_dimensions, embedding
from raymart_serve.engines.llama_cpp.events import Channel, Events
from raymart_serve.engines.llama_cpp.formats import FormatWatch
from raymart_serve.engines.llama_cpp.library import completion_request, server_parameters
from raymart_serve.engines.llama_cpp.listener import Listener
from raymart_serve.engines.llama_cpp.tools import ToolReader, grammar
from raymart_serve.engines.llama_cpp.vocabulary import Vocabulary, read_header
from raymart_serve.engines.protocol import (
    Embedding,
    EngineFailed,
    EngineHealth,
    EngineSpec,
    EngineStats,
    GenerationEvent,
    PromptTooLong,
    RequestRefused,
)
from raymart_serve.engines.slots import SlotGate

if TYPE_CHECKING:
    import xllamacpp

_CHANNEL_STEPS_MAX = 64
_HEALTH_TIMEOUT_S = 3.0
_IDLE_WITHIN_S = 10.0


class LlamaCppEngine:
    """Implements `engines.protocol.Generates` and `Embeds` for GGUF files.

    A file that says how to pool was made for embedding: it gives vectors and generates nothing. Any other gives the
    mean of its last layer; what that needs is loaded at the first such request.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._gate = SlotGate(slots=spec.slots, waiting_max=spec.waiting_max)
        self._cache_slots = CacheSlots(spec.slots)
        self._workers = ThreadPoolExecutor(spec.slots, thread_name_prefix="llama-generate")
        # The template and the tokenizer must not wait for a slot.
        self._askers = ThreadPoolExecutor(2, thread_name_prefix="llama-ask")
        self._open: set[Events] = set()
        self._server: xllamacpp.Server | None = None
        self._listener: Listener | None = None
        self._vocabulary: Vocabulary | None = None
        self._calls_tools = False
        self._embedder: Embedder | None = None
        self._embedder_made = asyncio.Lock()
        self._tokens_generated = 0
        self._requests_aborted = 0
        self._closed = False
        # Read once: looking it up takes longer than a token, and routes ask for it at every request.
        self._label = f"llama_cpp {version('xllamacpp')}"

    @property
    def label(self) -> str:
        """Name and version of the library."""
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
        """Load the weights. The library tells no progress: `progress` gets 0 and 100. Raises: EngineFailed."""
        progress(0)
        await asyncio.get_running_loop().run_in_executor(self._askers, self._load)
        progress(100)

    async def warm_up(self) -> None:
        """Sample two tokens. Raises: EngineFailed."""
        prompt = await self.encode_prompt("Hello")
        if self._server is None:
            await self.embed([prompt])
            return
        async with self.generate(prompt, sampling=Sampling(max_tokens=2, ignore_eos=True)) as events:
            async for _ in events:
                pass
        # The thread gives its slot back a moment after the last event; "ready" promises that all slots are free.
        async with asyncio.timeout(_IDLE_WITHIN_S):
            await self._gate.idle()
        self._tokens_generated = 0

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS
    ) -> tuple[int, ...]:
        """Token ids after the model's chat template, which is shown the tools when it has a form for calls that is known
        here (`tools`). Raises: RequestRefused, EngineFailed.
        """
        encode = partial(self._loaded_listener().encode_chat, messages, self._tools_for(options))
        return await asyncio.get_running_loop().run_in_executor(self._askers, encode)

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Token ids of plain text. Raises: EngineFailed."""
        listener = self._loaded_listener()
        return await asyncio.get_running_loop().run_in_executor(self._askers, listener.encode, prompt)

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AbstractAsyncContextManager[AsyncIterator[GenerationEvent]]:
        """See the protocol. A token inside a multi-byte character has no logprob of its own: llama.cpp sends only
        that of the character's last token, with the whole character as its text.
        """
        return self._generation(prompt_ids, resume_ids, sampling, options)

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, dimensions: int | None = None
    ) -> Sequence[Embedding]:
        """See the protocol. The first request to a model that also generates loads what vectors need."""
        ids = [await self._input_ids(one) for one in inputs]
        if not ids:
            raise RequestRefused("input is empty; give at least one text", param="input")
        embedder = await self._loaded_embedder()
        check_dimensions(dimensions, most=embedder.dimensions)
        await self._gate.acquire()
        left = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(self._workers, embedder.read, ids, left)
        work.add_done_callback(lambda _: self._gate.release())
        try:
            # The slot is free when the thread is, not when the caller has left.
            vectors = await asyncio.shield(work)
        finally:
            left.set()
        return [
            embedding(vector, tokens=len(one), dimensions=dimensions)
            for vector, one in zip(vectors, ids, strict=True)
        ]

    async def health(self) -> EngineHealth:
        """Loading before `load`; failing when llama.cpp's listener is silent or a generation gets no step for long.

        The listener has threads of its own and would answer beside a computation that hangs.
        """
        if self._closed:
            return EngineHealth(state="failing", reason="the engine is closed")
        if self._listener is None:
            return EngineHealth(state="loading", percent=0)
        now = time.monotonic()
        stalled_s = max(
            (now - events.engine_since for events in self._open if events.engine_since), default=0.0
        )
        if stalled_s > self._spec.stall_s:
            return EngineHealth(state="failing", reason=f"a generation has had no step for {stalled_s:.0f} s")
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                healthy = await asyncio.get_running_loop().run_in_executor(
                    self._askers, self._listener.healthy
                )
        except TimeoutError:
            healthy = False
        if healthy:
            return EngineHealth(state="ready")
        return EngineHealth(state="failing", reason="llama.cpp does not answer its health check")

    def stats(self) -> EngineStats:
        """Counters now."""
        return EngineStats(
            running=self._gate.running,
            waiting=self._gate.waiting,
            tokens_generated_total=self._tokens_generated + sum(events.tokens for events in self._open),
            requests_aborted_total=self._requests_aborted,
        )

    async def close(self) -> None:
        """Abort all generations, wait for their threads, free the model."""
        self._closed = True
        for events in tuple(self._open):
            events.channel.close()
        await asyncio.get_running_loop().run_in_executor(None, self._shut_down)

    async def _input_ids(self, given: str | Sequence[int]) -> Sequence[int]:
        listener = self._loaded_listener()
        if not given:
            raise RequestRefused("an input is empty; leave it out", param="input")
        if isinstance(given, str):
            loop = asyncio.get_running_loop()
            given = await loop.run_in_executor(self._askers, listener.encode, given)
        assert self._vocabulary is not None
        self._vocabulary.check(given, param="input")
        if len(given) > self._spec.context_length:
            raise PromptTooLong(tokens_prompt=len(given), context_length=self._spec.context_length)
        return given

    async def _loaded_embedder(self) -> Embedder:
        async with self._embedder_made:
            self._loaded_listener()
            if self._embedder is None:
                make = partial(Embedder, self._spec, own_pooling=False)
                self._embedder = await asyncio.get_running_loop().run_in_executor(self._askers, make)
            return self._embedder

    def _tools_for(self, options: GenerationOptions) -> Sequence[Tool]:
        """The tools that the model is shown and may call. Raises: RequestRefused when it must call one and cannot."""
        if options.tool_choice == "none" or not options.tools:
            return ()
        if self._calls_tools:
            return options.tools
        if options.tool_choice == "required" or options.tool_name is not None:
            raise RequestRefused(
                "this revision's chat template has no tools, so none can be required", param="tool_choice"
            )
        return ()

    def _loaded_listener(self) -> Listener:
        if self._closed:
            raise EngineFailed("the engine is closed")
        if self._listener is None:
            raise EngineFailed("the model is not loaded; call load first")
        return self._listener

    def _load(self) -> None:
        # Only this module needs the library; the package must stay importable where it is not installed.
        import xllamacpp  # noqa: PLC0415

        header = read_header(self._spec.path)
        self._vocabulary = header.vocabulary
        if header.own_pooling:
            self._embedder = Embedder(self._spec, own_pooling=True)
            self._listener = self._embedder.listener
            return
        key = secrets.token_hex(32)
        try:
            self._server = xllamacpp.Server(server_parameters(xllamacpp.CommonParams(), self._spec, key=key))
        except Exception as error:  # the library raises RuntimeError and more, by version
            raise EngineFailed(f"llama.cpp cannot load {self._spec.path.name!r}: {error}") from error
        # Freed before its loop has begun, the library would wait for that loop for ever: `terminate` is forgotten when
        # the loop starts after it (xllamacpp src/xllamacpp/server.cpp, `init`). One token proves that it runs.
        self._server.handle_completions(b'{"prompt": [0], "max_tokens": 1}', lambda _: False)
        listener = Listener(self._server.listening_address, key=key)
        self._calls_tools = listener.calls_tools()
        self._listener = listener

    def _shut_down(self) -> None:
        self._workers.shutdown(wait=True)
        self._askers.shutdown(wait=True)
        if self._listener is not None:
            self._listener.close()
        if self._embedder is not None:
            self._embedder.close()
        self._server = None

    @asynccontextmanager
    async def _generation(
        self,
        prompt_ids: Sequence[int],
        resume_ids: Sequence[int],
        sampling: Sampling,
        options: GenerationOptions,
    ) -> AsyncGenerator[AsyncIterator[GenerationEvent], None]:
        ids = [*prompt_ids, *resume_ids]
        self._check(ids)
        calls = bool(self._tools_for(options))
        rules = None
        if calls or options.response_format is not None:
            rules = await self._grammar(options, calls=calls, resumed=bool(resume_ids))
        tools = self._tool_reader(resume_ids) if calls else None
        body, reader = self._request(ids, sampling, rules, tools)
        await self._gate.acquire()
        slot, own = self._cache_slots.take(options.cache_salt)
        body["id_slot"] = slot
        if not own:
            body["cache_prompt"] = False
        loop = asyncio.get_running_loop()
        channel = Channel(loop, size_max=_CHANNEL_STEPS_MAX)
        events = Events(channel)
        work = loop.run_in_executor(self._workers, self._run, msgspec.json.encode(body), reader, events)
        # The slot is free when the thread is, which may be a step after the reader has left.
        work.add_done_callback(lambda _: self._freed(slot))
        self._open.add(events)
        try:
            yield events
        finally:
            channel.close()
            self._open.discard(events)
            self._tokens_generated += events.tokens
            self._requests_aborted += not events.finished

    def _freed(self, slot: int) -> None:
        self._cache_slots.give_back(slot)
        self._gate.release()

    def _check(self, ids: list[int]) -> None:
        self._loaded_listener()
        assert self._vocabulary is not None
        if self._server is None:
            raise RequestRefused("this revision makes vectors and generates no text", param="model")
        if not ids:
            raise RequestRefused("the prompt has no tokens; give at least one", param="prompt")
        self._vocabulary.check(ids, param="prompt_ids")
        if len(ids) >= self._spec.context_length:
            raise PromptTooLong(tokens_prompt=len(ids), context_length=self._spec.context_length)

    async def _grammar(self, options: GenerationOptions, *, calls: bool, resumed: bool) -> str | None:
        found = await asyncio.get_running_loop().run_in_executor(
            self._askers, partial(grammar, options, calls=calls)
        )
        if found is not None and resumed:
            # llama.cpp starts a grammar at the first new token; there is no way to start it in the middle.
            raise RequestRefused(
                "an answer with a response format or a required tool cannot be resumed; ask for it anew",
                param="resume_ids",
            )
        return found

    def _request(
        self,
        ids: list[int],
        sampling: Sampling,
        rules: str | None = None,
        tools: ToolReader | None = None,
    ) -> tuple[dict[str, object], ChunkReader]:
        assert self._vocabulary is not None
        reader = ChunkReader(
            self._vocabulary,
            tokens_prompt=len(ids),
            stops=sampling.stop,
            top_logprobs=sampling.top_logprobs,
            watch=None if rules is None else FormatWatch(rules),
            tools=tools,
        )
        max_tokens = min(sampling.max_tokens, self._spec.context_length - len(ids))
        return completion_request(ids, sampling, max_tokens=max_tokens, grammar=rules), reader

    def _tool_reader(self, resume_ids: Sequence[int]) -> ToolReader:
        """A reader of calls that has seen what was delivered, perhaps the first half of a call."""
        assert self._vocabulary is not None
        reader = ToolReader()
        reader.read(self._vocabulary.text(resume_ids))
        return reader

    def _run(self, body: bytes, reader: ChunkReader, events: Events) -> None:
        """In a worker thread: one blocking call; every way out puts a finish or a failure, or finds the reader gone."""
        channel = events.channel

        def on_chunk(data: str) -> bool:
            events.engine_since = None
            # The library swallows what its callback raises and goes on generating.
            try:
                gone = not all(self._hand_over(event, channel) for event in reader.read(data))
            except EngineFailed as error:
                reader.finished = True
                channel.put(error)
                return True
            events.engine_since = time.monotonic()
            return gone or reader.finished

        assert self._server is not None
        events.engine_since = time.monotonic()
        try:
            self._server.handle_completions(body, on_chunk)
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the reader must be told
            channel.put(EngineFailed(f"llama.cpp: {error}"))
        else:
            if not reader.finished:
                channel.put(EngineFailed("llama.cpp ended the generation without saying why"))
        finally:
            events.engine_since = None

    def _hand_over(self, event: GenerationEvent, channel: Channel) -> bool:
        if self._spec.step_delay_s and not channel.pause(self._spec.step_delay_s):
            return False
        return channel.put(event)
