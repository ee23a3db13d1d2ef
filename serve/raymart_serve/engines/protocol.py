"""What every engine promises, and what engines can do: generate text, make pictures, embed, rerank, predict.

An engine owns a model and its slots and nothing else: no network of its own that others may reach, no Ray, no
registration. The replica owns the rest. Every engine is an `Engine` and at least one of `Generates`, `MakesImages`,
`Embeds`, `Reranks`, `Predicts`; the replica's routes ask which. Nothing heavy is imported here.

    EngineError (RaymartError)
    ├── RequestRefused        the request is wrong; `param` names the field
    │   └── PromptTooLong     prompt and resumed tokens leave no room in the context
    ├── EngineBusy            every slot is taken and the queue is full
    └── EngineFailed          the engine broke; what it did so far stands
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from raymart_core.errors import RaymartError
from raymart_core.units import FinishReason
from raymart_core.wire.embedding import Tensor
from raymart_core.wire.image import ImageMade, ImageProgress, ImageRequest
from raymart_core.wire.replica import (
    NO_OPTIONS,
    ChatMessage,
    GenerationOptions,
    Sampling,
    TokenLogprob,
    ToolDelta,
    Usage,
)


class EngineError(RaymartError):
    """Root of what an engine raises on purpose. The message is safe to show to a customer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestRefused(EngineError):
    """The request cannot be run as it stands; `param` names the field that is wrong."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(RequestRefused):
    """The prompt leaves no room for even one token; or an input, where nothing is completed, is over the context."""

    def __init__(self, *, tokens_prompt: int, context_length: int, param: str = "messages") -> None:
        """`param` is "messages" for a prompt, else the field that holds the input."""
        message = (
            f"the prompt has {tokens_prompt} tokens and the context holds {context_length}, prompt and completion "
            "together; shorten the messages"
        )
        if param != "messages":
            message = (
                f"{param} has {tokens_prompt} tokens and the model reads {context_length} at most; shorten it"
            )
        super().__init__(message, param=param)
        self.tokens_prompt = tokens_prompt
        self.context_length = context_length


class EngineBusy(EngineError):
    """Every slot is taken and as many requests wait as may."""

    def __init__(self, *, slots: int, waiting_max: int) -> None:
        super().__init__(
            f"all {slots} slots are busy and {waiting_max} requests wait already; try another endpoint"
        )


class EngineFailed(EngineError):
    """The engine broke or answered what it must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine is to load and how much it may do at once."""

    path: Path
    """The weights, digests verified: a file, or the folder of a revision that has several."""
    context_length: int
    """Tokens of prompt and completion together, per generation."""
    slots: int
    """Generations at once."""
    model: str = ""
    """Slug, for what is written into a picture."""
    revision: str = ""
    """Manifest digest, for the same."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the revision's manifest sets of the engine, by name; one that the engine does not know is `EngineFailed`."""
    waiting_max: int = 64
    """Generations that may wait for a slot; one more is `EngineBusy`."""
    threads: int | None = None
    """Threads that compute; None for all processors but one."""
    stall_s: float = 120.0
    """A generation that gets no step for this long, prompt processing included, makes the engine unhealthy."""
    step_delay_s: float = 0.0
    """For tests only: pause before each step is handed on, so that a generation lasts long enough to be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStep:
    """Tokens that were generated and the text they complete.

    Ids and text go together: a token is in a step only when its text may be shown. So a token that is part of a stop
    string, and the end-of-sequence token, are in no step and in no count.
    """

    ids: tuple[int, ...]
    count: int
    """Tokens in all steps of this generation so far, these included."""
    text: str
    exact: bool = True
    """Whether `ids` is what was sampled, id for id; if not, it holds only the ids that are known."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    tool_deltas: tuple[ToolDelta, ...] = ()
    """What of the tokens belongs to tool calls; not in `text`."""
    reasoning: str = ""
    """What of them precedes the answer; not in `text`."""
    ends: FinishReason | None = None
    """Why the generation ends with it, where that is known: must be said of a text that a stop string has cut, because
    whoever went on from its ids would not find the stop string again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationFinish:
    """The end of a generation that went well."""

    reason: FinishReason
    usage: Usage
    """`prompt` counts prompt and resumed ids; `completion` equals the last step's count."""


GenerationEvent = GenerationStep | GenerationFinish
"""Steps, then exactly one finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """Whether the engine can serve."""

    state: Literal["loading", "ready", "failing"]
    reason: str = ""
    percent: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counters since the load, and the load now."""

    running: int
    waiting: int
    tokens_generated_total: int
    requests_aborted_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """One input's vector."""

    vector: bytes
    """float32, little-endian, [dimensions], of length 1."""
    tokens: int
    """Tokens read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How relevant one document is; the higher, the more."""

    score: float
    tokens: int
    """Tokens read of query and document."""


class Engine(Protocol):
    """One loaded model revision. All methods are called on one event loop, which none of them blocks."""

    @property
    def label(self) -> str:
        """Name and version, such as "llama_cpp 2026.10.11549"."""

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together, or of an input or a caption where nothing is completed."""

    @property
    def capacity(self) -> int:
        """Requests that run at once without waiting."""

    async def load(self, progress: Callable[[int], None]) -> None:
        """Load the weights, calling `progress` with percent on the way. Raises: EngineFailed."""

    async def warm_up(self) -> None:
        """Run once through the model, so that the first customer does not pay for it. Raises: EngineFailed."""

    async def health(self) -> EngineHealth:
        """Whether the engine can serve; answers within seconds even when it cannot."""

    def stats(self) -> EngineStats:
        """Counters now."""

    async def close(self) -> None:
        """Abort everything and free the model. Safe to call twice."""


@runtime_checkable
class Generates(Engine, Protocol):
    """Turns prompt token ids into steps."""

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS
    ) -> tuple[int, ...]:
        """Token ids of a conversation after the revision's chat template, which is also shown the tools.

        Raises: RequestRefused, EngineFailed.
        """

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Token ids of plain text. Raises: EngineFailed."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AbstractAsyncContextManager[AsyncIterator[GenerationEvent]]:
        """Generate after `prompt_ids` and then `resume_ids`, tokens that another endpoint delivered already.

        Entering waits for a slot; leaving aborts whatever still runs within one step. `sampling.max_tokens` and the
        counts of the steps are of this generation only, without `resume_ids`.

        Raises: PromptTooLong, RequestRefused or EngineBusy on entry; EngineFailed while iterating.
        """


@runtime_checkable
class MakesImages(Engine, Protocol):
    """Turns a prompt, and perhaps a picture, into pictures."""

    def make_images(
        self, request: ImageRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[ImageProgress | ImageMade]]:
        """Make `request.count` pictures; each `ImageMade` comes as soon as its picture is whole.

        Entering waits for a slot; leaving stops the work at the next denoising step. The same request gives the same
        bytes on the same kind of processor.

        Raises: RequestRefused or EngineBusy on entry; EngineFailed while iterating, also when memory runs out.
        """


@runtime_checkable
class Embeds(Engine, Protocol):
    """Turns texts into vectors."""

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, dimensions: int | None = None
    ) -> Sequence[Embedding]:
        """A vector for each text or list of token ids, in order. Waits for a slot.

        Raises: PromptTooLong, RequestRefused, EngineBusy, EngineFailed.
        """


@runtime_checkable
class Reranks(Engine, Protocol):
    """Scores documents for a query."""

    async def rerank(self, query: str, documents: Sequence[str]) -> Sequence[Score]:
        """A score for each document, in their order. Raises: RequestRefused, EngineBusy, EngineFailed."""


@runtime_checkable
class Predicts(Engine, Protocol):
    """Runs an exported model on named tensors."""

    async def predict(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The model's outputs. Raises: RequestRefused naming the input that is wrong, EngineBusy, EngineFailed."""
