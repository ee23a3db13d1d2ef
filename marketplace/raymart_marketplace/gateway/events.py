"""What an inference request tells its caller: `Started`, then `Delta`s, then `Finished` or `Broken`.

When an endpoint is lost in the middle, `Waiting` comes now and then while another is looked for, and `Resumed` before
its first `Delta`. A failure before `Started` is raised as a `DomainError` instead, so that REST can still answer with a status.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import Money
from raymart_core.ports import FinishedRequest
from raymart_core.units import FinishReason
from raymart_core.wire.replica import StepEvent, TokenLogprob, ToolDelta


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The first token is here; it comes from `provider`."""

    request_id: UUID
    created_at: datetime
    """When the request arrived."""
    model: str
    """Slug of the model that serves."""
    provider: str
    """Slug of the provider that serves."""
    revision: str
    """Manifest digest of the served revision, "sha256:<hex>"."""
    attempts: int
    """Endpoints tried so far, this one included."""
    cache: Literal["hit", "miss", "bypass"] | None = None
    """What became of the wish for a cached answer; bypass for what would not be the same again. None without the wish."""


class Delta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens that were delivered. `text` is empty while a multi-byte character is incomplete."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str = ""
    """What the model thought before its answer; not in `text`."""
    tools: tuple[ToolDelta, ...] = ()
    """Pieces of tool calls; not in `text`."""


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The endpoint was lost, and none has taken over yet: a sign of life for whoever waits."""


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """Another endpoint of the same revision goes on where the text broke off."""

    position: int
    """Completion tokens that were delivered before."""
    provider: str
    """Slug of the provider that goes on."""
    seed: int | None
    """What the rest is sampled with, so that it can be made again from prompt and position; None of what is greedy."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The good end. The request is durably recorded when this is yielded."""

    finish_reason: FinishReason
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    """What the customer pays."""
    provider: str
    """Who served last."""
    attempts: int
    tokens_cached: int = 0
    """Those of the prompt's that were billed at the cached price."""
    resumed: tuple[Resumed, ...] = ()
    """Where the text was taken up, in order."""
    record: FinishedRequest | None = None
    """What was recorded."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The bad end after `Started`: what was delivered is billed, the rest of the hold is given back."""

    error: DomainError
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    provider: str
    attempts: int
    resumed: tuple[Resumed, ...] = ()


InferenceEvent = Started | Delta | Waiting | Resumed | Finished | Broken
"""Whatever `Inference.run` yields."""

WAITING = Waiting()


def delta_of(step: StepEvent) -> Delta:
    """What a replica's step hands to the customer."""
    return Delta(text=step.d, token_ids=step.t, logprobs=step.lp, reasoning=step.r, tools=step.tool)


def delta_of_all(steps: Sequence[StepEvent]) -> Delta:
    """What several steps hand to the customer together."""
    if len(steps) == 1:
        return delta_of(steps[0])
    logprobs = tuple(logprob for step in steps for logprob in step.lp or ())
    return Delta(
        text="".join(step.d for step in steps),
        token_ids=tuple(token for step in steps for token in step.t),
        logprobs=logprobs or None,
        reasoning="".join(step.r for step in steps),
        tools=tuple(piece for step in steps for piece in step.tool),
    )
