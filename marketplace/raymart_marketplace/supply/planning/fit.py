"""How much memory a replica will take, before anybody has loaded it. Estimates, and said to be: pure functions.

Weights take their files' size. What a token of context takes (keys and values of every layer) follows from a model's
shape, which manifests do not tell; unless the manifest's parameter `kv_bytes_per_token` does, it is estimated from the
number of parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIB = 2**30
MIB = 2**20
WEIGHTS_FACTOR = 1.05
"""Buffers that grow with the weights: tables of the tokenizer, alignment, the graph."""
OVERHEAD_BYTES: Mapping[str, int] = MappingProxyType(
    {"llama_cpp": 256 * MIB, "onnx": 256 * MIB, "diffusers": GIB, "vllm": 3 * GIB}
)
"""What a replica takes of the host's memory beside weights and caches, by engine: process, libraries, buffers.
Measured of small models on the CPU (llama_cpp 188 MiB, diffusers with torch about 700 MiB) and rounded up; vLLM's has
three processes that import torch."""
OVERHEAD_OTHERS_BYTES = 512 * MIB
"""Of engines that are not ours."""
_KV_TOKEN_BYTES = 128 * 1024
_KV_PARAMETERS = 8e9
"""Llama 3 8B: 32 layers, 8 heads of 128 for keys and as many for values, 2 bytes each."""
KV_TOKEN_BYTES_PARAMETER = "kv_bytes_per_token"
_KV_TOKEN_BYTES_MAX = 2**30
_GPUS_MAX = 64
_BITS: Mapping[str, float] = MappingProxyType(
    {
        "f32": 32,
        "fp32": 32,
        "bf16": 16,
        "f16": 16,
        "fp16": 16,
        "fp8": 8,
        "int8": 8,
        "q8": 8.5,
        "q6": 6.6,
        "q5": 5.5,
    }
    | dict.fromkeys(("q4", "int4", "awq", "gptq", "nf4", "mxfp4", "nvfp4", "iq4"), 4.5)
)
"""Bits a weight, by how the name of the number format begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is known of a revision that decides its size."""

    engine: str
    quantization: str
    size_bytes: int | None
    """Of all files; None where nobody has counted."""
    context_length: int
    parameters: Mapping[str, str]
    """Of the manifest."""
    tokens: bool
    """Whether it keeps keys and values of a context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one replica takes."""

    memory_bytes: int
    """Of the host's main memory."""
    gpus: int = 0
    """Whole GPUs."""
    gpu_memory_bytes: int = 0
    """On each of them."""


def footprint(weights: Weights, *, slots: int) -> Footprint:
    """What a replica of `weights` with `slots` generations at once takes."""
    overhead = OVERHEAD_BYTES.get(weights.engine, OVERHEAD_OTHERS_BYTES)
    held = int((weights.size_bytes or 0) * WEIGHTS_FACTOR) + _kv_bytes(weights, slots=slots)
    gpus = gpus_of(weights.parameters)
    if gpus == 0:
        return Footprint(memory_bytes=overhead + held)
    return Footprint(memory_bytes=overhead, gpus=gpus, gpu_memory_bytes=-(-held // gpus) + GIB)


def gpus_of(parameters: Mapping[str, str]) -> int:
    """GPUs that one replica takes, as `raymart_serve.applications` reads it; what is no number is none."""
    text = parameters.get("gpus", "0")
    return min(int(text[:4]), _GPUS_MAX) if text.isascii() and text.isdecimal() else 0


def kv_token_bytes(weights: Weights) -> int:
    """Keys and values of one token of context, in bytes.

    The estimate grows with the square root of the number of parameters. Of published shapes with grouped heads at 2 bytes
    it has (bytes a token, here in KiB, the model's own first): Qwen2.5 0.5B 12:32, Llama 3.2 1B 32:45, Llama 3 8B 128:128,
    70B 320:379, 405B 504:911. Models whose heads are not grouped take up to four times as much: say so in the manifest.
    """
    told = weights.parameters.get(KV_TOKEN_BYTES_PARAMETER, "")
    if told.isascii() and told.isdecimal():
        return min(int(told[:12]), _KV_TOKEN_BYTES_MAX)
    count = (weights.size_bytes or 0) * 8 / _bits(weights.quantization)
    return int(_KV_TOKEN_BYTES * (count / _KV_PARAMETERS) ** 0.5)


def _kv_bytes(weights: Weights, *, slots: int) -> int:
    if not weights.tokens:
        return 0
    # llama.cpp allocates the whole context of every slot when it loads. vLLM shares pages among requests, and refuses to
    # start where not even one whole context fits.
    contexts = slots if weights.engine == "llama_cpp" else 1
    return contexts * weights.context_length * kv_token_bytes(weights)


def _bits(quantization: str) -> float:
    name = quantization.lower()
    return next((bits for start, bits in _BITS.items() if name.startswith(start)), 16.0)
