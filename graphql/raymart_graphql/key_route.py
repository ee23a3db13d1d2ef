"""`GET /v1/key`: what a key may do and has spent, in OpenRouter's shape. Any key may ask about itself.

Source: https://openrouter.ai/docs/api-reference/api-keys/get-current-api-key
"""

import asyncio
from datetime import datetime
from decimal import Decimal

import msgspec
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.types import Receive, Scope

from raymart_billing.budgets import BudgetPeriodKind, BudgetScope, BudgetStanding, budgets_of_scopes
from raymart_billing.rollups import KeySpending, spending_of_key
from raymart_core.errors import Forbidden, Unavailable
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.rate_limits.limiter import LimitsOf
from raymart_marketplace.gateway.rate_limits.limits import Level

KEY_PATH = "/v1/key"
READ_TIMEOUT_S = 5.0

# OpenRouter's clients read numbers. A JSON number has any length; ours are exact.
_encode = msgspec.json.Encoder(decimal_format="number").encode
_RESETS = {BudgetPeriodKind.DAILY: "daily", BudgetPeriodKind.MONTHLY: "monthly"}


class RateLimitObject(msgspec.Struct):
    """What one level allows; null for what it does not limit."""

    level: Level
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None


class KeyObject(msgspec.Struct):
    """One key. Amounts are US dollars."""

    label: str
    """The key's first characters."""
    name: str
    limit: Decimal | None
    """Of the budget that has the least left; null without budgets."""
    limit_remaining: Decimal | None
    limit_reset: str | None
    """"daily" or "monthly"; null for a limit that never begins anew."""
    usage: Decimal
    usage_daily: Decimal
    usage_weekly: Decimal
    usage_monthly: Decimal
    expires_at: datetime | None
    scopes: list[str]
    models: list[str] | None
    """Slugs that it may use; null for all."""
    rate_limits: list[RateLimitObject]
    """Those of its organization, its project and its own, as far as there are any; the tightest decides."""
    answer_cache_seconds: int
    """How long its answers are given again where a request does not say, by its own wish or else its project's."""
    byok_usage: int = 0
    byok_usage_daily: int = 0
    byok_usage_weekly: int = 0
    byok_usage_monthly: int = 0
    include_byok_in_limit: bool = False
    is_free_tier: bool = False
    is_management_key: bool = False
    is_provisioning_key: bool = False


class KeyReply(msgspec.Struct):
    """OpenRouter's envelope."""

    data: KeyObject


class KeyRoute(Endpoint):
    """Shows the key that asks."""

    method = "GET"

    def __init__(self, authenticator: Authenticator, sessions: Sessions, limits: LimitsOf) -> None:
        super().__init__(authenticator)
        self._sessions = sessions
        self._limits = limits

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer with the key's own object. Raises: Forbidden for a person's token, Unavailable."""
        if caller.api_key_id is None:
            raise Forbidden("this is about the API key that asks; send one instead of an access token")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), self._sessions() as session:
                key = await session.get_one(ApiKey, caller.api_key_id)
                spending = await spending_of_key(
                    session, organization_id=caller.organization_id, api_key_id=key.id
                )
                budgets = await budgets_of_scopes(session, BudgetScope.API_KEY, [key.id])
        except (OperationalError, InterfaceError, PoolTimeoutError, TimeoutError) as error:
            raise Unavailable("the key cannot be read for the moment; try again in a second") from error
        tightest = min(budgets, key=_remaining, default=None)
        shown = _object(key, spending, tightest, limited=self._limited(caller), cache_s=caller.answer_cache_s)
        await answer.json(_encode(KeyReply(data=shown)))

    def _limited(self, caller: Caller) -> list[RateLimitObject]:
        return [
            RateLimitObject(
                level=level,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                concurrent_requests=limits.concurrent_requests,
            )
            for level, _, limits in self._limits.limits_of(caller)
        ]


def _object(
    key: ApiKey,
    spending: KeySpending,
    budget: BudgetStanding | None,
    *,
    limited: list[RateLimitObject],
    cache_s: int,
) -> KeyObject:
    return KeyObject(
        label=key.prefix,
        name=key.name,
        limit=None if budget is None else budget.limit.decimal(),
        limit_remaining=None if budget is None else _remaining(budget),
        limit_reset=None if budget is None else _RESETS.get(budget.period),
        usage=spending.ever.decimal(),
        usage_daily=spending.this_day.decimal(),
        usage_weekly=spending.this_week.decimal(),
        usage_monthly=spending.this_month.decimal(),
        expires_at=key.expires_at,
        scopes=key.scopes,
        models=key.models,
        rate_limits=limited,
        answer_cache_seconds=cache_s,
    )


def _remaining(budget: BudgetStanding) -> Decimal:
    """What may still be spent in the present period; what running requests have reserved counts as spent only once it is."""
    return max(Decimal(0), budget.limit.decimal() - budget.spent.decimal())
