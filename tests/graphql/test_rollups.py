"""Sums of usage: the customer's by day, hour and month, the provider's earnings, the market's for administrators."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.db.session import session_scope
from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Seller, Tenant

TODAY = datetime.now(UTC).date()
DAYS: dict[str, Any] = {"since": str(TODAY - timedelta(days=1)), "until": str(TODAY + timedelta(days=1))}
TOTALS = (
    "totals { requests tokensPrompt tokensCompletion amount { amount currency } providerAmount { amount } }"
)
AMOUNT = 3 * ASK_PROMPT + 10 * ASK_COMPLETION

BY_DAY = (
    "query ($id: ID!, $since: Date!, $until: Date!, $by: UsageDimension) { organization(id: $id) {"
    " usageByDay(since: $since, until: $until, by: $by) { startsAt model { slug } provider { slug } project { slug } "
    + TOTALS
    + " } } }"
)
SUMMARY = (
    "query ($id: ID!, $month: Date!) { organization(id: $id) { usageSummary(month: $month) { month "
    + TOTALS
    + " byModel { model { slug } totals { requests } } byApiKey { apiKey { id } totals { requests } } } } }"
)
EARNINGS = (
    "query ($id: ID!, $since: Date!, $until: Date!) { provider(id: $id) {"
    " earningsByDay(since: $since, until: $until) { startsAt requests tokensCompletion amount { amount } model { slug } } } }"
)


@pytest_asyncio.fixture(loop_scope="session")
async def used(api: Api, customer: Tenant, seller: Seller) -> Tenant:
    """The customer, after 4 requests at the seller's."""
    await api.use(customer, seller, 4)
    # The rows were written beside the poster, which rolls up otherwise.
    async with session_scope(api.services.sessions) as session:
        await session.execute(text("select usage_rollup_rebuild(:month)"), {"month": TODAY})
    return customer


class TestCustomer:
    async def test_a_day_is_the_sum_of_its_requests(self, api: Api, used: Tenant, seller: Seller) -> None:
        answer = await api(BY_DAY, used.owner, id=used.id, **DAYS)
        [day] = answer.data["organization"]["usageByDay"]
        assert day["startsAt"] == f"{TODAY}T00:00:00Z"
        assert day["totals"]["requests"] == "4"
        assert day["totals"]["tokensCompletion"] == "40"
        assert Decimal(day["totals"]["amount"]["amount"]) * 10**9 == 4 * AMOUNT
        assert day["model"] is day["provider"] is day["project"] is None

    async def test_sums_are_apart_by_what_is_asked_for(self, api: Api, used: Tenant, seller: Seller) -> None:
        answer = await api(BY_DAY, used.owner, id=used.id, **DAYS, by="MODEL")
        [day] = answer.data["organization"]["usageByDay"]
        assert day["model"]["slug"] == seller.model_slug
        assert day["provider"] is None

    async def test_a_month_at_a_glance(self, api: Api, used: Tenant, seller: Seller) -> None:
        answer = await api(SUMMARY, used.owner, id=used.id, month=str(TODAY))
        summary = answer.data["organization"]["usageSummary"]
        assert summary["month"] == str(TODAY.replace(day=1))
        assert summary["totals"]["requests"] == "4"
        assert summary["byModel"] == [{"model": {"slug": seller.model_slug}, "totals": {"requests": "4"}}]
        assert summary["byApiKey"] == [{"apiKey": None, "totals": {"requests": "4"}}]

    async def test_hours_are_there_too(self, api: Api, used: Tenant) -> None:
        now = datetime.now(UTC)
        query = (
            "query ($id: ID!, $since: DateTime!, $until: DateTime!) { organization(id: $id) {"
            " usageByHour(since: $since, until: $until) { startsAt totals { requests } } } }"
        )
        span = {
            "since": (now - timedelta(hours=3)).isoformat(),
            "until": (now + timedelta(hours=1)).isoformat(),
        }
        answer = await api(query, used.owner, id=used.id, **span)
        assert (
            sum(int(hour["totals"]["requests"]) for hour in answer.data["organization"]["usageByHour"]) == 4
        )

    async def test_a_range_that_is_too_long_says_so(self, api: Api, used: Tenant) -> None:
        span = {"since": "2020-01-01", "until": "2026-01-01"}
        answer = await api(BY_DAY, used.owner, id=used.id, **span)
        assert "at most 400 days" in answer.errors[0]["message"]

    async def test_a_stranger_sees_nothing_of_it(self, api: Api, used: Tenant, stranger: Tenant) -> None:
        answer = await api(BY_DAY, stranger.owner, id=used.id, **DAYS)
        assert answer.data == {"organization": None}
        own = await api(BY_DAY, stranger.owner, id=stranger.id, **DAYS)
        assert own.data["organization"]["usageByDay"] == []


class TestProvider:
    async def test_its_members_see_what_it_earned_by_model(
        self, api: Api, used: Tenant, seller: Seller
    ) -> None:
        answer = await api(EARNINGS, seller.tenant.owner, id=f"prov_{seller.provider_id.hex}", **DAYS)
        [day] = answer.data["provider"]["earningsByDay"]
        assert (day["requests"], day["tokensCompletion"]) == ("4", "40")
        assert Decimal(day["amount"]["amount"]) * 10**9 == 4 * (AMOUNT - AMOUNT // 10)
        assert day["model"]["slug"] == seller.model_slug

    async def test_a_customer_does_not(self, api: Api, used: Tenant, seller: Seller) -> None:
        answer = await api(EARNINGS, used.owner, id=f"prov_{seller.provider_id.hex}", **DAYS)
        assert answer.errors[0]["extensions"]["code"] == "FORBIDDEN"


class TestAdministrator:
    async def test_the_whole_market_is_at_least_this_customer(self, api: Api, used: Tenant) -> None:
        platform = await api.tenant(OrganizationKind.PLATFORM)
        query = (
            "query ($since: Date!, $until: Date!, $month: Date!) {"
            " marketUsageByDay(since: $since, until: $until) { totals { requests } }"
            " marketUsageSummary(month: $month) { totals { requests } } }"
        )
        answer = await api(query, platform.owner, **DAYS, month=str(TODAY))
        assert int(answer.data["marketUsageByDay"][-1]["totals"]["requests"]) >= 4
        assert int(answer.data["marketUsageSummary"]["totals"]["requests"]) >= 4
