"""The way in, the same for whatever is sold: may the caller, is there room, and what is given back at the end.

Everything is asked before anything is routed or held. What is refused here leaves no row.
"""

import time
from dataclasses import dataclass, field

from raymart_core.units import Fault
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.endpoint import Headers
from raymart_marketplace.gateway.rate_limits.headers import limit_headers
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.request_life import AttemptT, Life
from raymart_marketplace.gateway.retry_budget import RetryBudget
from raymart_marketplace.gateway.shedding.shedder import LoadShedder

HEDGES_MOST = 0.5
"""The share of the retry budget beyond which no request is hedged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Lets requests in and out. One per process, for text, pictures and vectors together."""

    shedder: LoadShedder
    limiter: RateLimiter | None = None
    """None where nobody is limited."""
    retries: RetryBudget = field(default_factory=RetryBudget)

    async def enter(self, life: Life[AttemptT]) -> None:
        """Let the request in, after a wait if need be. Raises: RateLimited, ModelBusy."""
        caller = life.caller
        # Limits first: who is over theirs takes no place in a queue from others.
        if self.limiter is not None:
            life.allowance = await self.limiter.take(caller, life.tokens_expected)
        try:
            life.turn = await self.shedder.enter(
                life.needs.model_slug, caller.organization_id, left_s=life.patience.left_s()
            )
        except BaseException:
            if life.allowance is not None:
                life.allowance.undo()
            raise
        self.retries.earn()

    def may_retry(self) -> bool:
        """Take one retry from the process's budget. Ask before each attempt but the first."""
        return self.retries.spend()

    def may_hedge(self) -> bool:
        """The same for a second endpoint beside the first. What is left of the budget is for requests that failed."""
        return self.retries.spend(most=HEDGES_MOST)

    def failed(self, life: Life[AttemptT], failure: AttemptFailed) -> None:
        """Tell of an attempt that failed: an endpoint that is full says how much is too much."""
        if life.turn is not None and failure.fault is Fault.PROVIDER and failure.retry and not failure.blame:
            life.turn.refused()

    def leave(self, life: Life[AttemptT]) -> None:
        """The request is over. Safe to call twice, and for one that was never let in."""
        if life.turn is not None:
            life.turn.leave()
        if life.allowance is not None:
            life.allowance.settle(life.tokens_used)

    def headers(self, caller: Caller) -> Headers:
        """How the caller's limits stand, for its answer."""
        if self.limiter is None:
            return ()
        return limit_headers(self.limiter.shares_of(caller), time.monotonic())
