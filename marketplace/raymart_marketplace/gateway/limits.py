"""How long the gateway waits and how often it tries."""

from dataclasses import dataclass
from typing import Self

from raymart_marketplace.settings import ControlSettings

HOLD_MARGIN_S = 60.0
"""How long a hold outlives the deadline of its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceLimits:
    """The bounds of one request's life; times in seconds."""

    request_deadline_s: float
    first_token_timeout_s: float
    stall_timeout_s: float
    attempts_max: int
    hold_ttl_s: float

    @classmethod
    def of(cls, settings: ControlSettings) -> Self:
        """The bounds that the process was started with."""
        return cls(
            request_deadline_s=settings.request_deadline_s,
            first_token_timeout_s=settings.first_token_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            attempts_max=settings.attempts_max,
            hold_ttl_s=settings.hold_ttl_s,
        )

    @classmethod
    def of_pictures(cls, settings: ControlSettings) -> Self:
        """The same for pictures, which take longer and are quiet while a step is computed."""
        return cls(
            request_deadline_s=settings.image_deadline_s,
            first_token_timeout_s=settings.image_step_timeout_s,
            stall_timeout_s=settings.image_step_timeout_s,
            attempts_max=settings.attempts_max,
            hold_ttl_s=settings.image_deadline_s + HOLD_MARGIN_S,
        )
