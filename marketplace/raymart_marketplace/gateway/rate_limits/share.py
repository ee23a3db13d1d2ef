"""What one process may use of one limit without asking: plain numbers, no I/O.

A minute's worth lies in Redis as a token bucket. A process takes what it needs of it and a little more (`buckets`), uses
that up here, and hands back what it has not used for a second. So the hot path asks Redis once for many requests while
there is plenty, and for each request when there is not.
"""

import math
from dataclasses import dataclass
from uuid import UUID

from raymart_marketplace.gateway.rate_limits.limits import Kind, Level, Limits

MINUTE_S = 60.0


@dataclass(slots=True, kw_only=True, eq=False)
class Share:
    """One organization's, project's or key's, in this process. Times are of the monotonic clock, in seconds."""

    level: Level
    id: UUID
    limits: Limits
    requests: float = 0.0
    """Requests that may be let in; infinite where they are not limited."""
    tokens: float = 0.0
    """Tokens that may be used; negative after more were used than was thought."""
    slots: float = 0.0
    """Requests that may run at once."""
    running: int = 0
    left_requests: float = 0.0
    """What Redis had left when it was last asked, for all processes."""
    left_tokens: float = 0.0
    known_at: float = 0.0
    """When that was."""
    refused_until: float = 0.0
    """Until when Redis need not be asked: it has said what it would say."""
    refused_kind: Kind = Kind.REQUESTS
    used_at: float = 0.0
    is_alone: bool = False
    """Whether what is in hand was made here, without Redis."""

    def __post_init__(self) -> None:
        self.limit_to(self.limits)

    def limit_to(self, limits: Limits) -> None:
        """Take other limits. What was in hand of the former ones is forgotten: Redis is asked anew."""
        self.limits = limits
        self.requests = math.inf if limits.requests_per_minute is None else 0.0
        self.tokens = math.inf if limits.tokens_per_minute is None else 0.0
        self.slots = math.inf if limits.concurrent_requests is None else 0.0
        self.left_requests = float(limits.requests_per_minute or 0)
        self.left_tokens = float(limits.tokens_per_minute or 0)
        self.refused_until = 0.0

    def has(self, tokens: float) -> bool:
        """Whether a request of so many tokens can be let in without asking."""
        return self.requests >= 1 and self.tokens >= tokens and self.running < self.slots

    def short_of(self, tokens: float) -> Kind:
        """What there is too little of."""
        if self.requests < 1:
            return Kind.REQUESTS
        return Kind.TOKENS if self.tokens < tokens else Kind.CONCURRENCY

    def take(self, tokens: float) -> None:
        """Let a request in."""
        self.requests -= 1
        self.tokens -= tokens
        self.running += 1

    def settle(self, back: float) -> None:
        """A request is over; `back` of its tokens were not used, or more than it had where negative."""
        self.running -= 1
        self.tokens += back

    def hand_over(self) -> tuple[float, float]:
        """Requests and tokens in hand, for Redis; nothing is left here, nor room for another request, until it answers."""
        requests = 0.0 if math.isinf(self.requests) else self.requests
        tokens = 0.0 if math.isinf(self.tokens) else self.tokens
        self.requests -= requests
        self.tokens -= tokens
        if self.limits.concurrent_requests is not None:
            self.slots = min(self.slots, float(self.running))
        if self.is_alone:
            # Redis has gone on filling its bucket meanwhile: what was made here is worth nothing there, debts are.
            self.is_alone = False
            return min(0.0, requests), min(0.0, tokens)
        return requests, tokens

    def granted(
        self,
        *,
        requests: float,
        tokens: float,
        slots: float,
        left_requests: float,
        left_tokens: float,
        now: float,
    ) -> None:
        """Take in what Redis gave, and what it has left."""
        self.requests += requests
        self.tokens += tokens
        if self.limits.concurrent_requests is not None:
            self.slots = slots
        self.left_requests, self.left_tokens, self.known_at = left_requests, left_tokens, now

    def refill_alone(self, now: float, *, processes: int) -> None:
        """Without Redis: this process's part of each limit, as a bucket of its own."""
        passed_s = min(MINUTE_S, max(0.0, now - self.known_at))
        limits = self.limits
        # At least one of each: a small limit must not become none.
        if limits.requests_per_minute is not None:
            most = max(1.0, limits.requests_per_minute / processes)
            grown = most * (self.left_requests / limits.requests_per_minute + passed_s / MINUTE_S)
            self.requests, self.left_requests = min(most, self.requests + grown), 0.0
        if limits.tokens_per_minute is not None:
            most = max(1.0, limits.tokens_per_minute / processes)
            grown = most * (self.left_tokens / limits.tokens_per_minute + passed_s / MINUTE_S)
            self.tokens, self.left_tokens = min(most, self.tokens + grown), 0.0
        if limits.concurrent_requests is not None:
            self.slots = max(1.0, float(limits.concurrent_requests // processes))
        self.known_at, self.is_alone = now, True

    def wait_alone_s(self, kind: Kind, tokens: float, *, processes: int) -> float:
        """How long until there is enough for such a request, without Redis."""
        limit = self.limits.of(kind)
        assert limit is not None
        if kind is Kind.CONCURRENCY:
            return 1.0
        missing = 1.0 - self.requests if kind is Kind.REQUESTS else tokens - self.tokens
        return max(0.0, missing) / max(1.0, limit / processes) * MINUTE_S

    def remaining(self, kind: Kind, now: float) -> int:
        """What a customer may still use at this moment, of all processes together, as far as it is known here."""
        limit = self.limits.of(kind)
        assert limit is not None
        left, here = (
            (self.left_requests, self.requests) if kind is Kind.REQUESTS else (self.left_tokens, self.tokens)
        )
        grown = left + limit * (now - self.known_at) / MINUTE_S
        return max(0, min(limit, int(grown + here)))
