"""What ends the demo early."""

from raymart_local.errors import LocalError


class DemoFailed(LocalError):
    """A step of the story did not go as told; the message says which and what came instead."""
