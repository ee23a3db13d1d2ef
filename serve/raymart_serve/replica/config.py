"""What one replica is to serve."""

from typing import Annotated

import msgspec

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class ReplicaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Plain values only: it travels as JSON from the pool controller through Serve to the replica."""

    model: str
    """Model slug, such as "raymart/demo-chat"."""
    revision: str
    """Manifest digest, "sha256:<hex>"."""
    engine: str
    """Name in the engine registry."""
    source: str
    sha256: str
    """Of the weights, 64 hex digits."""
    context_length: AtLeastOne
    slots: AtLeastOne
    parameters: dict[str, str] = {}
    """What the revision's manifest sets of the engine, by name."""
    waiting_max: int = 64
    """Requests that may wait for a slot; one more is refused with 503."""
    drain_timeout_s: float = 60.0
    """How long a stopping replica waits for its running streams."""
    step_delay_ms: float = 0.0
    """For tests only: pause before each step."""
