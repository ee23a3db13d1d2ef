"""Where weights come from, and the proof that they are what the revision names."""

from raymart_serve.models.checkout import checked_out
from raymart_serve.models.weights import WeightsUnavailable, resolve, tree_sha256

__all__ = ["WeightsUnavailable", "checked_out", "resolve", "tree_sha256"]
