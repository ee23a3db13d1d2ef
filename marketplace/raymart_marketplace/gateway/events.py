"""What an inference request tells its caller: `Started`, then `Delta`s, then `Finished` or `Broken`.

A failure before `Started` is raised as a `DomainError` instead, so that REST can still answer with a status.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import Money
from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The first token is here; from now on the request is answered by `provider` and no other."""

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


class Delta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens that were delivered. `text` is empty while a multi-byte character is incomplete."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str = ""
    """What the model thought before its answer; not in `text`."""
    tools: tuple[ToolDelta, ...] = ()
    """Pieces of tool calls; not in `text`."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The good end. The request is durably recorded when this is yielded."""

    finish_reason: FinishReason
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    """What the customer pays."""
    provider: str
    attempts: int


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The bad end after `Started`: what was delivered is billed, the rest of the hold is given back."""

    error: DomainError
    tokens_prompt: int
    tokens_completion: int
    cost: Money
    provider: str
    attempts: int


InferenceEvent = Started | Delta | Finished | Broken
"""Whatever `Inference.run` yields."""
