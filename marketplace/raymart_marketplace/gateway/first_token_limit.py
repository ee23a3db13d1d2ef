"""How long a request waits at one endpoint before it is tried elsewhere.

One limit for all would be the slowest provider's: a machine that has answered within 50 ms all day and is silent for a
second is not slow, it is stuck. So each endpoint is given what it has needed of late, many times over; but only while
there is a better place to go: the last endpoint, one whose slots are all taken (a queue is no fault), and one that nobody
knows yet have the whole limit. Retries that overload causes would make it worse.

This is also what finds a link that has fallen silent: heartbeats come each second and may be late by as much, so that
they could tell hardly sooner, and of a stuck engine they tell nothing. A second endpoint is asked while the first is
waited for only where the customer wishes it (`hedging`).
"""

from dataclasses import replace
from functools import lru_cache

from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.routing.route import Offered
from raymart_marketplace.supply.live import LiveEndpoint

LEAST_S = 3.0
"""Nobody is given less: compilers, page caches and collectors pause for as long."""
TIMES = 20.0
"""Times the first token's usual wait."""
TOKENS_FOR_ONE_MORE = 2_000
"""A prompt of so many tokens may take as long again: the usual wait is of usual prompts."""
OBSERVATIONS_MIN = 3.0


def limits_at(
    endpoint: LiveEndpoint, spare: Offered | None, *, tokens_prompt_max: int, limits: InferenceLimits
) -> InferenceLimits:
    """`limits` for a request of at most `tokens_prompt_max` tokens at `endpoint`; `spare` is where it would go next."""
    first_token_s = first_token_limit_s(endpoint, spare, tokens_prompt_max=tokens_prompt_max)
    if first_token_s is None or first_token_s >= limits.first_token_timeout_s:
        return limits
    return _within(limits, round(first_token_s, 1))


@lru_cache(maxsize=1024)
def _within(limits: InferenceLimits, first_token_s: float) -> InferenceLimits:
    # A copy of a frozen dataclass costs as much as the rest of the decision.
    return replace(limits, first_token_timeout_s=first_token_s)


def first_token_limit_s(
    endpoint: LiveEndpoint, spare: Offered | None, *, tokens_prompt_max: int
) -> float | None:
    """Seconds, or None for the gateway's own limit."""
    usual_ms = endpoint.first_token_ms
    if usual_ms is None or endpoint.observations < OBSERVATIONS_MIN or endpoint.running >= endpoint.capacity:
        return None
    if spare is None or spare.running >= spare.capacity or spare.quarantined:
        return None
    return max(LEAST_S, TIMES * usual_ms / 1000) * (1.0 + tokens_prompt_max / TOKENS_FOR_ONE_MORE)
