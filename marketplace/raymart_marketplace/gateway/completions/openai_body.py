"""OpenAI's completions body: shape and types, by an allow-list of fields.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

import msgspec
from msgspec.structs import replace

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.choices import Asked, asked_of, first_model
from raymart_marketplace.gateway.completions.prompts import Prompt, read_prompts
from raymart_marketplace.gateway.openai_body import UNSET, Ignored, StreamOptions, decode_body
from raymart_marketplace.gateway.provider_object import ProviderObject, routing_preference
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.gateway.required_parameters import needed_capabilities
from raymart_marketplace.routing.preference import NO_PREFERENCE

MAX_TOKENS = 16
"""OpenAI's default of this route."""
LOGPROBS_MAX = 5


class CompletionBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body; `None` is what a client sends for "not set"."""

    prompt: Prompt
    model: str | None = None
    models: list[str] | None = None
    """Tried in this order, after `model`, when nobody serves the one before."""
    timeout: float | None = None
    """Seconds that the client waits, as LiteLLM sends it; `x-raymart-deadline-ms` says the same."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    best_of: int | None = None
    """As many as `n`: nothing is generated to be thrown away."""
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: int | None = None
    """Alternatives of each token, 0 to 5."""
    echo: bool | None = None
    """Whether the answer begins with the prompt, which must be text then."""
    suffix: str | None = None
    """Not served: no model here fills in between."""
    provider: ProviderObject | None = None
    ignore_eos: bool | None = None
    """vLLM's: go on to `max_tokens` whatever the model says; benchmarks send it."""

    # OpenAI's and other hosts', without effect here.
    frequency_penalty: Ignored = UNSET
    logit_bias: Ignored = UNSET
    metadata: Ignored = UNSET
    min_p: Ignored = UNSET
    presence_penalty: Ignored = UNSET
    repetition_penalty: Ignored = UNSET
    top_k: Ignored = UNSET
    usage: Ignored = UNSET
    user: Ignored = UNSET


_decode = msgspec.json.Decoder(CompletionBody).decode


def parse_completion(body: bytes) -> Asked:
    """Read a completions body. Raises: InvalidRequest naming the field as `param`, whatever the bytes are."""
    decoded = decode_body(body, _decode, fields=CompletionBody.__struct_fields__)
    _refuse(decoded)
    sampling = _sampling(decoded)
    model = first_model(decoded.model, decoded.models)
    routing = NO_PREFERENCE
    if decoded.provider is not None:
        required = decoded.provider.require_parameters
        needed = needed_capabilities(decoded, sampling, tools=False) if required else ()
        routing = routing_preference(decoded.provider, needed=needed)
    prompts = read_prompts(decoded.prompt)
    if decoded.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidRequest("echo needs prompts of text; token ids cannot be echoed", param="echo")
    requests = [
        ChatRequest(
            model=model,
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_ids=None if isinstance(prompt, str) else prompt,
            sampling=sampling,
            routing=routing,
        )
        for prompt in prompts
    ]
    asked = asked_of(
        requests,
        n=decoded.n,
        models=decoded.models,
        stream=decoded.stream,
        stream_options=decoded.stream_options,
        provider=decoded.provider,
        timeout=decoded.timeout,
    )
    return replace(asked, echo=True) if decoded.echo else asked


def _refuse(body: CompletionBody) -> None:
    if body.suffix:
        raise InvalidRequest("suffix is not served; leave it out", param="suffix")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequest(
            f"best_of={body.best_of} is not n={body.n or 1}; every answer that is generated is sent",
            param="best_of",
        )
    if body.echo and body.logprobs is not None:
        raise InvalidRequest("echo with logprobs is not served: a prompt has no logprobs", param="echo")
    if body.logprobs is not None and not 0 <= body.logprobs <= LOGPROBS_MAX:
        raise InvalidRequest(
            f"logprobs={body.logprobs} is not between 0 and {LOGPROBS_MAX}", param="logprobs"
        )


def _sampling(body: CompletionBody) -> Sampling:
    stop = body.stop
    return Sampling(
        max_tokens=MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        top_logprobs=body.logprobs,
        ignore_eos=bool(body.ignore_eos),
    )
