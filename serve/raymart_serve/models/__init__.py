"""Where weights come from, and the proof that they are what the revision names."""

from raymart_serve.models.resolve import WeightsUnavailable, resolve

__all__ = ["WeightsUnavailable", "resolve"]
