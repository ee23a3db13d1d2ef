"""An n-gram language model as a Raymart engine."""

from raymart_engine_ngram.engine import NgramEngine

__all__ = ["NgramEngine"]
