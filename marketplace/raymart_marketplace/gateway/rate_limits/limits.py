"""What may be limited, of whom, and the error of who is over it."""

from dataclasses import dataclass
from enum import StrEnum

from raymart_core.errors import Overloaded

REQUESTS_PER_MINUTE_MAX = 10_000_000
TOKENS_PER_MINUTE_MAX = 10**12
CONCURRENT_MAX = 1_000_000


class Level(StrEnum):
    """Whose requests are counted together."""

    ORGANIZATION = "organization"
    PROJECT = "project"
    API_KEY = "api_key"

    @property
    def label(self) -> str:
        """In a sentence."""
        return "API key" if self is Level.API_KEY else self.value


class Kind(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    """Requests in a minute, served or not."""
    TOKENS = "tokens"
    """Tokens in a minute, of prompts and answers together."""
    CONCURRENCY = "concurrency"
    """Requests that run at the same time."""


_WHAT = {
    Kind.REQUESTS: "requests a minute",
    Kind.TOKENS: "tokens a minute",
    Kind.CONCURRENCY: "requests at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one organization, project or key may do; None for what is not limited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return self != NO_LIMITS

    def within(self, other: "Limits") -> "Limits":
        """The lower of each."""
        return Limits(
            requests_per_minute=_lower(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute=_lower(self.tokens_per_minute, other.tokens_per_minute),
            concurrent_requests=_lower(self.concurrent_requests, other.concurrent_requests),
        )

    def of(self, kind: Kind) -> int | None:
        """The limit of one kind."""
        match kind:
            case Kind.REQUESTS:
                return self.requests_per_minute
            case Kind.TOKENS:
                return self.tokens_per_minute
            case Kind.CONCURRENCY:
                return self.concurrent_requests


NO_LIMITS = Limits()


class RateLimited(Overloaded):
    """A limit is reached. Names which one, and whose."""

    def __init__(self, *, level: Level, kind: Kind, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f"this {level.label} may make {limit:,} {_WHAT[kind]}, and they are used up; try again in"
            f" {retry_after_s} s, or have the limit raised",
            retry_after_s=retry_after_s,
        )
        self.level = level
        self.kind = kind
        self.limit = limit


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
