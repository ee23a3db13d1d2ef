"""How many answers a body asks for, by which models; each answer is a generation of its own, with its own id and bill."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.asked_deadline import checked_timeout_s
from raymart_marketplace.gateway.openai_body import StreamOptions
from raymart_marketplace.gateway.provider_object import ProviderObject
from raymart_marketplace.gateway.request import SEED_MAX, SEED_MIN, ChatRequest

N_MAX = 8
"""Answers to one prompt."""
CHOICES_MAX = 32
"""Answers in one body, over all of its prompts."""
MODELS_MAX = 8
"""Models that may be tried one after the other."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A body: what is to be generated, and how the answer is to be written."""

    choices: tuple[ChatRequest, ...]
    """One for each answer, by its index."""
    fallbacks: tuple[ChatRequest, ...] = ()
    """The one choice again, of other models, to be tried in this order when its own cannot be served."""
    stream: bool
    include_usage: bool
    """Whether a stream ends with a chunk that carries the usage."""
    echo: bool = False
    """Whether each answer begins with its prompt."""
    timeout_s: float | None = None
    """How long the client waits, as the body says; None where it does not."""
    traced: bool = False
    """Whether the answer tells how it was routed; of several choices the first's."""

    @property
    def request(self) -> ChatRequest:
        """The first choice."""
        return self.choices[0]


def first_model(model: str | None, models: Sequence[str] | None) -> str:
    """The model that is asked first. Raises: InvalidRequest when none is named."""
    if model is None and not models:
        raise InvalidRequest("model is missing", param="model")
    return model if model is not None or not models else models[0]  # type: ignore[return-value]  # one of them is


def asked_of(
    requests: Sequence[ChatRequest],
    *,
    n: int | None,
    models: Sequence[str] | None,
    stream: bool | None,
    stream_options: StreamOptions | None,
    provider: ProviderObject | None,
    timeout: float | None,
) -> Asked:
    """`n` answers to each of `requests`, the first one's first. Raises: InvalidRequest naming the field."""
    choices = tuple(requests) if n in {None, 1} else _times(requests, n or 0)
    if len(choices) > CHOICES_MAX:
        raise InvalidRequest(
            f"{len(requests)} prompts with n={n or 1} are {len(choices)} answers; the limit is {CHOICES_MAX}",
            param="prompt",
        )
    return Asked(
        choices=choices,
        fallbacks=_fallbacks(choices, models) if models else (),
        stream=bool(stream),
        include_usage=bool(stream_options is not None and stream_options.include_usage),
        timeout_s=checked_timeout_s(timeout),
        traced=bool(provider is not None and provider.trace),
    )


def _times(requests: Sequence[ChatRequest], n: int) -> tuple[ChatRequest, ...]:
    if not 1 <= n <= N_MAX:
        raise InvalidRequest(f"n={n} is not between 1 and {N_MAX}; send more requests", param="n")
    return tuple(_seeded(request, place) for request in requests for place in range(n))


def _seeded(request: ChatRequest, place: int) -> ChatRequest:
    """The same with the seed of its place: one seed for all would make the same answer `n` times."""
    seed = request.sampling.seed
    if seed is None or not place:
        return request
    wrapped = (seed - SEED_MIN + place) % (SEED_MAX - SEED_MIN + 1) + SEED_MIN
    return replace(request, sampling=replace(request.sampling, seed=wrapped))


def _fallbacks(choices: Sequence[ChatRequest], models: Sequence[str]) -> tuple[ChatRequest, ...]:
    if len(models) > MODELS_MAX:
        raise InvalidRequest(f"{len(models)} models; the limit is {MODELS_MAX}", param="models")
    others = [model for model in dict.fromkeys(models) if model != choices[0].model]
    if others and len(choices) > 1:
        raise InvalidRequest(
            "several answers come from one model; ask for one answer, or name one model", param="models"
        )
    return tuple(replace(choices[0], model=model) for model in others)
