"""The body of llama.cpp's `POST /completion`, by an allow-list of fields. Ours are `model`, `provider` and `timeout`.

Defaults are llama.cpp's. Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import NO_OPTIONS, GenerationOptions, ResponseFormat
from raymart_marketplace.gateway.asked_deadline import checked_timeout_s
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.completions.prompts import Prompt, read_prompts
from raymart_marketplace.gateway.openai_body import UNSET, Ignored, decode_body
from raymart_marketplace.gateway.openai_tools import schema_document
from raymart_marketplace.gateway.provider_object import ProviderObject, routing_preference
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.routing.preference import NO_PREFERENCE

TEMPERATURE = 0.8
TOP_P = 0.95


class LlamaBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body. What is marked as ignored shapes sampling or caches in ways that no endpoint promises."""

    prompt: Prompt
    """One prompt."""
    model: str | None = None
    """Which model; llama.cpp has but one. Needed here."""
    stream: bool | None = None
    n_predict: int | None = None
    """Most tokens; -1 for what the context leaves."""
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    """-1 for a random one."""
    stop: list[str] | None = None
    n_probs: int | None = None
    """Alternatives of each token, 0 for none."""
    ignore_eos: bool | None = None
    timeout: float | None = None
    """Ours: seconds that the client waits; `x-raymart-deadline-ms` says the same."""
    json_schema: msgspec.Raw | msgspec.UnsetType = UNSET
    provider: ProviderObject | None = None

    cache_prompt: Ignored = UNSET
    dry_allowed_length: Ignored = UNSET
    dry_base: Ignored = UNSET
    dry_multiplier: Ignored = UNSET
    dry_penalty_last_n: Ignored = UNSET
    dry_sequence_breakers: Ignored = UNSET
    dynatemp_exponent: Ignored = UNSET
    dynatemp_range: Ignored = UNSET
    frequency_penalty: Ignored = UNSET
    logit_bias: Ignored = UNSET
    min_keep: Ignored = UNSET
    min_p: Ignored = UNSET
    mirostat: Ignored = UNSET
    mirostat_eta: Ignored = UNSET
    mirostat_tau: Ignored = UNSET
    n_keep: Ignored = UNSET
    post_sampling_probs: Ignored = UNSET
    presence_penalty: Ignored = UNSET
    repeat_last_n: Ignored = UNSET
    repeat_penalty: Ignored = UNSET
    response_fields: Ignored = UNSET
    return_progress: Ignored = UNSET
    return_tokens: Ignored = UNSET
    samplers: Ignored = UNSET
    timings_per_token: Ignored = UNSET
    top_k: Ignored = UNSET
    typical_p: Ignored = UNSET
    xtc_probability: Ignored = UNSET
    xtc_threshold: Ignored = UNSET


_decode = msgspec.json.Decoder(LlamaBody).decode


def parse_llama(body: bytes) -> Asked:
    """Read the body. Raises: InvalidRequest naming the field as `param`, whatever the bytes are."""
    decoded = decode_body(body, _decode, fields=LlamaBody.__struct_fields__)
    if decoded.model is None:
        raise InvalidRequest("model is missing; name the model, GET /v1/models lists them", param="model")
    prompts = read_prompts(decoded.prompt)
    if len(prompts) > 1:
        raise InvalidRequest(
            f"{len(prompts)} prompts; this route takes one, /v1/completions more", param="prompt"
        )
    (prompt,) = prompts
    request = ChatRequest(
        model=decoded.model,
        prompt=prompt if isinstance(prompt, str) else None,
        prompt_ids=None if isinstance(prompt, str) else prompt,
        sampling=_sampling(decoded),
        routing=NO_PREFERENCE if decoded.provider is None else routing_preference(decoded.provider),
        options=_options(decoded),
    )
    traced = bool(decoded.provider is not None and decoded.provider.trace)
    return Asked(
        choices=(request,),
        stream=bool(decoded.stream),
        include_usage=False,
        timeout_s=checked_timeout_s(decoded.timeout),
        traced=traced,
    )


def _sampling(body: LlamaBody) -> Sampling:
    unlimited = body.n_predict is None or body.n_predict == -1
    if not unlimited and (body.n_predict or 0) < 1:
        raise InvalidRequest(f"n_predict={body.n_predict} is neither -1 nor 1 or more", param="n_predict")
    return Sampling(
        max_tokens=None if unlimited else body.n_predict,
        temperature=TEMPERATURE if body.temperature is None else body.temperature,
        top_p=TOP_P if body.top_p is None else body.top_p,
        seed=None if body.seed == -1 else body.seed,
        stop=tuple(body.stop or ()),
        top_logprobs=body.n_probs or None,
        ignore_eos=bool(body.ignore_eos),
    )


def _options(body: LlamaBody) -> GenerationOptions:
    if body.json_schema is UNSET or bytes(body.json_schema) in {b"{}", b"null"}:
        return NO_OPTIONS
    schema = schema_document(bytes(body.json_schema), param="json_schema")
    return GenerationOptions(response_format=ResponseFormat(type="json_schema", schema=schema))
