"""What the library is told: how to load a model, and each generation's request."""

import os
from typing import TYPE_CHECKING

from raymart_core.wire.replica import Sampling
from raymart_serve.engines.protocol import EngineSpec

if TYPE_CHECKING:
    import xllamacpp

_SEED_RANDOM = 2**32 - 1
"""llama.cpp draws a seed of its own when it is given this one."""


def server_parameters(
    parameters: "xllamacpp.CommonParams", spec: EngineSpec, *, key: str
) -> "xllamacpp.CommonParams":
    """`parameters` with our choices: nothing open to others, nothing kept of customers, nothing shifted out of sight."""
    parameters.model.path = str(spec.path)
    # One context's worth per slot; what is asked for beyond it is refused, never shifted out of sight.
    parameters.n_ctx = spec.context_length * spec.slots
    parameters.n_parallel = spec.slots
    parameters.kv_unified = False
    parameters.ctx_shift = False
    parameters.use_jinja = True
    # llama.cpp's threads spin while they wait: with every processor taken it is many times slower (facts: engines).
    threads = spec.threads or max(1, (os.cpu_count() or 2) - 1)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.api_keys = [key]
    parameters.n_threads_http = 4
    parameters.ui = parameters.endpoint_slots = False
    parameters.offline = True
    parameters.warmup = False
    parameters.fit_params = False
    # The prompt cache of idle slots would take up to 8 GiB and outlive a customer's request.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.verbosity = 0
    return parameters


def embedding_parameters(
    parameters: "xllamacpp.CommonParams", spec: EngineSpec, *, key: str, pooling: object | None
) -> "xllamacpp.CommonParams":
    """`parameters` for vectors; an input must fit into one batch."""
    parameters = server_parameters(parameters, spec, key=key)
    parameters.embedding = True
    # With a cache for each slot, inputs of unequal length in one batch get each other's numbers into their mean
    # (cosine 0.94 to the right vector; seen by conformance.embedding).
    parameters.kv_unified = True
    parameters.n_batch = parameters.n_ubatch = spec.context_length
    if pooling is not None:
        parameters.pooling_type = pooling
    return parameters


def completion_request(
    ids: list[int], sampling: Sampling, *, max_tokens: int, grammar: str | None = None
) -> dict[str, object]:
    """The body of one streamed completion after `ids`."""
    body: dict[str, object] = {
        "prompt": ids,
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # llama.cpp's own defaults, and a model file's, narrow the choice further; ours are the API's defaults.
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": sampling.ignore_eos,
        "stream": True,
        "verbose": True,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % _SEED_RANDOM
        # A reused prompt is computed in other batch sizes, which may tip a nearly even draw.
        body["cache_prompt"] = False
    if sampling.top_logprobs is not None:
        body["logprobs"] = max(1, sampling.top_logprobs)
    if grammar is not None:
        body["grammar"] = grammar
    if sampling.stop:
        # Stop strings are matched here, so that the last chunk, which tells what was cached, is not waited for.
        body["timings_per_token"] = True
    return body
