"""How long the gateway waits and how often it tries."""

from dataclasses import dataclass
from typing import Self

from raymart_marketplace.settings import ControlSettings


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
