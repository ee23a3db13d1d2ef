"""The image engine on diffusers. Importing this package does not load torch; loading a model does."""

from raymart_serve.engines.diffusers.engine import DiffusersEngine

__all__ = ["DiffusersEngine"]
