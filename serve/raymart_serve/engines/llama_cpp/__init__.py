"""The llama.cpp engine. Importing this package does not load the library; loading a model does."""

from raymart_serve.engines.llama_cpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
