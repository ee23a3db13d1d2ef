"""How long the gateway waits and how often it tries."""

from dataclasses import dataclass, replace
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
    resume_wait_s: float = 0.0
    """How long a broken answer waits for an endpoint that could take it up, when there is none."""
    hedging: bool = True
    """Whether a customer may have a second endpoint asked when the first is late."""

    @classmethod
    def of(cls, settings: ControlSettings) -> Self:
        """The bounds that the process was started with."""
        return cls(
            request_deadline_s=settings.request_deadline_s,
            first_token_timeout_s=settings.first_token_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            attempts_max=settings.attempts_max,
            hold_ttl_s=settings.hold_ttl_s,
            resume_wait_s=settings.resume_wait_s,
            hedging=settings.hedging,
        )

    def within(self, deadline_s: float | None) -> "InferenceLimits":
        """These, for a client that waits no longer than `deadline_s`."""
        if deadline_s is None or deadline_s >= self.request_deadline_s:
            return self
        return replace(self, request_deadline_s=deadline_s)

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
