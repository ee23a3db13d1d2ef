"""vLLM: text on GPUs, and on CPUs through its CPU build. `import vllm` happens when an engine loads, not here."""

from raymart_serve.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
