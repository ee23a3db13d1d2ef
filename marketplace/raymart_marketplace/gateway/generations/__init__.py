"""`GET /v1/generation`: what became of one request."""

from raymart_marketplace.gateway.generations.route import GENERATION_PATH, GenerationReadRoute

__all__ = ["GENERATION_PATH", "GenerationReadRoute"]
