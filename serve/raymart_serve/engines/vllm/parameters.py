"""What a revision's manifest may set of vLLM, read strictly: a misspelt name must not become another revision."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from raymart_serve.engines.protocol import EngineFailed


class VllmParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters by their names in the manifest, where every value is text."""

    gpus: int = 0
    """GPUs of one replica; the model is spread over them by tensor parallelism. 0 for the CPU build."""
    tensor_parallel_size: int = 0
    """0 for as many as there are GPUs."""
    dtype: str = "auto"
    """Of weights and activations, such as "bfloat16"; "auto" is that of the files."""
    quantization: str = ""
    """Such as "awq", "gptq", "fp8", "compressed-tensors"; empty: what the revision's config.json says."""
    kv_cache_dtype: str = "auto"
    kv_cache_bytes: int = 0
    """Of each GPU's memory, or of the machine's for the CPU build; 0 for a share of the GPU's, or 1 GiB."""
    gpu_memory_utilization: float = 0.9
    """Share of each GPU that weights, cache and activations may take, above 0, at most 1."""
    tool_parser: str = ""
    """Name of vLLM's parser of tool calls, such as "hermes"; empty where the model calls no tools."""
    reasoning_parser: str = ""
    """Name of vLLM's parser of reasoning, such as "deepseek_r1"; empty where the model does not reason aloud."""
    eager: Literal["", "true", "false"] = ""
    """Whether to run without compiled graphs: "true" starts faster, "false" runs faster. Empty: true on the CPU only."""

    def __post_init__(self) -> None:
        if self.gpus < 0 or self.tensor_parallel_size < 0 or self.kv_cache_bytes < 0:
            raise ValueError("gpus, tensor_parallel_size and kv_cache_bytes must not be negative")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization is {self.gpu_memory_utilization}; above 0, at most 1")

    @property
    def parallel(self) -> int:
        """Processes that share the model."""
        return self.tensor_parallel_size or self.gpus or 1

    @property
    def enforce_eager(self) -> bool:
        """Whether vLLM is to compile nothing."""
        return self.gpus == 0 if self.eager == "" else self.eager == "true"


def read_parameters(parameters: Mapping[str, str]) -> VllmParameters:
    """The parameters of a manifest. Raises: EngineFailed naming what is wrong."""
    try:
        return msgspec.convert(dict(parameters), VllmParameters, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(VllmParameters.__struct_fields__)
        raise EngineFailed(
            f"the revision's parameters do not fit vLLM: {error}; known are {known}: publish a revision with these"
        ) from error
