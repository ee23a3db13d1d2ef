"""When a request that asks for it goes to a second endpoint as well, and what becomes of that wish.

The wait is made of what the endpoint has needed of late, as its whole limit is (`first_token_limit`), only much shorter:
nothing is given up by it, so that it may be wrong now and then.
"""

from enum import StrEnum

from raymart_marketplace.gateway.first_token_limit import OBSERVATIONS_MIN, TOKENS_FOR_ONE_MORE
from raymart_marketplace.supply.live import LiveEndpoint

TIMES = 2.0
"""Times the first token's usual wait."""
LEAST_S = 0.1
"""Nobody is given less: who is that quick is late by chance alone."""
USUAL_S = 1.0
"""Of an endpoint that is hardly known."""


class Hedge(StrEnum):
    """What becomes of a request's wish for a second endpoint."""

    OFF = "off"
    """It has none, or this marketplace forbids it."""
    NOT_NEEDED = "not_needed"
    """No endpoint was late so far."""
    NO_ROOM = "no_room"
    """The first was late, and the next had no free slot; or there was no next."""
    NO_BUDGET = "no_budget"
    """Likewise, and this process has retried and hedged too much of late."""
    NO_TIME = "no_time"
    """Likewise, and the next could not have begun within the request's deadline."""
    ASKED = "asked"
    """A second endpoint was asked; neither has delivered."""
    WON = "won"
    """A second endpoint was asked, and it served."""
    LOST = "lost"
    """A second endpoint was asked, and the first served."""


def hedge_after_s(endpoint: LiveEndpoint, *, tokens_prompt_max: int) -> float:
    """How long to wait for the first step of `endpoint`, in seconds from when it was asked."""
    usual_s, known_ms = USUAL_S, endpoint.first_token_ms
    if known_ms is not None and endpoint.observations >= OBSERVATIONS_MIN:
        usual_s = known_ms / 1000
    return max(LEAST_S, TIMES * usual_s) * (1.0 + tokens_prompt_max / TOKENS_FOR_ONE_MORE)
