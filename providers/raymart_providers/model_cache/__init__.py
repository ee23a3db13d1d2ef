"""The model cache of a node, run by its agent: asks the marketplace, fetches, serves replicas and other nodes."""

from raymart_providers.model_cache.host import ModelHost

__all__ = ["ModelHost"]
