"""Requests and attempts by what is looked for; series without gaps; and who sees what of them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.metering.arrival import arrival_of, first_id_of
from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Seller, Tenant
from support.statements import statements_of

REQUESTS = """
query ($id: ID!, $filter: RequestFilter, $first: Int = 50) {
  organization(id: $id) {
    requests(filter: $filter, first: $first) {
      nodes {
        id state errorCode modelServed firstTokenMs durationMs
        attempts { position outcome fault reason endpointId nodeId firstTokenMs durationMs provider { slug } }
        usageRecord { amount { amount } lines { unit quantity price { amount } amount { amount } }
          rateCard { version } offer { id } }
      }
      pageInfo { hasNextPage }
    }
  }
}
"""
ATTEMPTS = """
query ($id: ID!, $filter: ProviderAttemptFilter, $first: Int = 50) {
  provider(id: $id) { attempts(filter: $filter, first: $first) {
    nodes { id requestId endpointId outcome fault reason tokensDelivered node { name } earned { amount } }
  } }
}
"""
SERIES = """
query ($id: ID!, $since: DateTime!, $until: DateTime!, $step: UsageStep!, $by: UsageDimension) {
  organization(id: $id) { usageSeries(since: $since, until: $until, step: $step, by: $by) {
    since until totals { requests amount { amount } }
    lines { model { slug } apiKey { id } totals { requests } points { startsAt totals { requests } } }
  } }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def made(api: Api, customer: Tenant, seller: Seller) -> list[str]:
    """Four requests of the customer; the last failed at the provider."""
    ids = [*await api.use(customer, seller, 3), *await api.use(customer, seller, 1, broke="stalled for 5 s")]
    async with session_scope(api.services.sessions) as session:
        await session.execute(text("select usage_rollup_rebuild(:day)"), {"day": datetime.now(UTC).date()})
    return [show(Prefix.REQUEST, request_id) for request_id in ids]


async def requests(api: Api, tenant: Tenant, **filter_: Any) -> list[dict[str, Any]]:
    data = (await api(REQUESTS, tenant.owner, id=tenant.id, filter=filter_)).data
    found: list[dict[str, Any]] = data["organization"]["requests"]["nodes"]
    return found


class TestRequests:
    async def test_newest_come_first_with_attempts_and_cost(
        self, api: Api, customer: Tenant, seller: Seller, made: list[str]
    ) -> None:
        found = await requests(api, customer)
        assert [request["id"] for request in found] == made[::-1]
        failed, done = found[0], found[1]
        assert (failed["state"], failed["errorCode"]) == ("FAILED", "upstream_failed")
        [attempt] = failed["attempts"]
        assert (attempt["fault"], attempt["reason"]) == ("PROVIDER", "stalled for 5 s")
        assert attempt["nodeId"] == show(Prefix.NODE, seller.node_id)
        lines = done["usageRecord"]["lines"]
        assert {line["unit"]: line["quantity"] for line in lines} == {
            "TOKEN_PROMPT": "3",
            "TOKEN_COMPLETION": "10",
        }
        total = sum(Decimal(line["amount"]["amount"]) for line in lines)
        assert total == Decimal(done["usageRecord"]["amount"]["amount"])
        assert done["usageRecord"]["rateCard"] is None
        assert done["usageRecord"]["offer"]["id"] == show(Prefix.OFFER, seller.offer_id)

    async def test_each_condition_narrows(
        self, api: Api, customer: Tenant, seller: Seller, made: list[str]
    ) -> None:
        middle = arrival_of(parse(Prefix.REQUEST, made[2])).isoformat()
        conditions: list[tuple[dict[str, Any], int]] = [
            ({"states": ["FAILED"]}, 1),
            ({"states": ["FAILED", "COMPLETED"]}, 4),
            ({"states": ["CANCELLED"]}, 0),
            ({"model": seller.model_slug}, 4),
            ({"model": "other"}, 0),
            ({"apiKeyId": show(Prefix.API_KEY, new_id())}, 0),
            ({"projectId": customer.project}, 4),
            ({"since": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, 0),
            ({"until": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}, 0),
        ]
        for filter_, count in conditions:
            assert len(await requests(api, customer, **filter_)) == count, filter_
        later = await requests(api, customer, since=middle)
        earlier = await requests(api, customer, until=middle)
        assert [*later, *earlier] == await requests(api, customer)

    async def test_request_by_id_is_null_for_strangers(
        self, api: Api, customer: Tenant, stranger: Tenant, seller: Seller, made: list[str]
    ) -> None:
        query = "query ($id: ID!) { request(id: $id) { id usageRecord { id } } }"
        assert (await api(query, customer.owner, id=made[0])).data["request"]["id"] == made[0]
        for person in (stranger.owner, seller.tenant.owner):
            assert (await api(query, person, id=made[0])).data == {"request": None}

    async def test_statements_do_not_grow_with_the_page(
        self, api: Api, customer: Tenant, seller: Seller, made: list[str]
    ) -> None:
        one = await statements_of(api, REQUESTS, customer.owner, id=customer.id, first=1)
        assert await statements_of(api, REQUESTS, customer.owner, id=customer.id, first=4) == one
        one = await statements_of(api, ATTEMPTS, seller.tenant.owner, id=seller.id, first=1)
        assert await statements_of(api, ATTEMPTS, seller.tenant.owner, id=seller.id, first=4) == one


class TestProvidersView:
    async def test_it_shows_what_happened_and_not_to_whom(
        self, api: Api, customer: Tenant, seller: Seller, made: list[str]
    ) -> None:
        answer = await api(ATTEMPTS, seller.tenant.owner, id=seller.id)
        found = answer.data["provider"]["attempts"]["nodes"]
        assert [attempt["requestId"] for attempt in found] == made[::-1]
        amount = 3 * ASK_PROMPT + 10 * ASK_COMPLETION
        assert Decimal(found[-1]["earned"]["amount"]) == Decimal(amount - amount // 10).scaleb(-9)
        shown = answer.response.text
        for private in (customer.id, customer.project, show(Prefix.USER, customer.owner.user_id)):
            assert private not in shown

    async def test_each_condition_narrows(self, api: Api, seller: Seller, made: list[str]) -> None:
        node = show(Prefix.NODE, seller.node_id)
        conditions: list[tuple[dict[str, Any], int]] = [
            ({"outcomes": ["FAILED"]}, 1),
            ({"faults": ["PROVIDER", "NETWORK"]}, 1),
            ({"nodeId": node, "outcomes": ["DELIVERED"]}, 3),
            ({"nodeId": show(Prefix.NODE, new_id())}, 0),
            ({"since": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, 0),
        ]
        for filter_, count in conditions:
            data = (await api(ATTEMPTS, seller.tenant.owner, id=seller.id, filter=filter_)).data
            assert len(data["provider"]["attempts"]["nodes"]) == count, filter_


class TestSeries:
    async def test_hours_without_usage_are_zeros_and_all_adds_up(
        self, api: Api, customer: Tenant, seller: Seller, made: list[str]
    ) -> None:
        now = datetime.now(UTC)
        span = {
            "since": (now - timedelta(hours=30)).isoformat(),
            "until": now.isoformat(),
        }
        for by in (None, "MODEL", "API_KEY", "PROVIDER", "PROJECT"):
            answer = await api(SERIES, customer.owner, id=customer.id, step="HOUR", by=by, **span)
            series = answer.data["organization"]["usageSeries"]
            [line] = series["lines"]
            assert series["totals"]["requests"] == line["totals"]["requests"] == "4"
            assert len(line["points"]) == 31
            starts = [datetime.fromisoformat(point["startsAt"]) for point in line["points"]]
            assert {after - before for before, after in pairwise(starts)} == {timedelta(hours=1)}
            assert sum(int(point["totals"]["requests"]) for point in line["points"]) == 4
            assert (line["model"] or {}).get("slug") == (seller.model_slug if by == "MODEL" else None)

    async def test_nothing_used_is_a_line_of_zeros(self, api: Api, stranger: Tenant) -> None:
        span = {"since": "2026-01-01T12:00:00Z", "until": "2026-01-03T00:00:00Z"}
        answer = await api(SERIES, stranger.owner, id=stranger.id, step="DAY", **span)
        series = answer.data["organization"]["usageSeries"]
        assert (series["since"], series["until"]) == ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")
        [line] = series["lines"]
        assert [point["totals"]["requests"] for point in line["points"]] == ["0", "0"]
        answer = await api(SERIES, stranger.owner, id=stranger.id, step="DAY", by="MODEL", **span)
        assert answer.data["organization"]["usageSeries"]["lines"] == []

    async def test_a_range_that_is_too_long_or_empty_is_refused(self, api: Api, customer: Tenant) -> None:
        for since, until, step in (
            ("2026-01-01T00:00:00Z", "2026-02-01T01:00:00Z", "HOUR"),
            ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z", "DAY"),
        ):
            answer = await api(SERIES, customer.owner, id=customer.id, since=since, until=until, step=step)
            assert answer.code == "BAD_USER_INPUT"

    async def test_the_provider_sees_what_it_earned(self, api: Api, seller: Seller, made: list[str]) -> None:
        now = datetime.now(UTC)
        query = """query ($id: ID!, $since: DateTime!, $until: DateTime!) { provider(id: $id) {
          earningsSeries(since: $since, until: $until, byModel: true) {
            requests amount { amount } lines { model { slug } amount { amount } points { requests } } } } }"""
        span = {"since": (now - timedelta(days=2)).isoformat(), "until": now.isoformat()}
        answer = await api(query, seller.tenant.owner, id=seller.id, **span)
        series = answer.data["provider"]["earningsSeries"]
        [line] = series["lines"]
        amount = 3 * ASK_PROMPT + 10 * ASK_COMPLETION
        assert Decimal(series["amount"]["amount"]) == Decimal(4 * (amount - amount // 10)).scaleb(-9)
        assert line["model"]["slug"] == seller.model_slug
        assert [point["requests"] for point in line["points"]] == ["0", "0", "4"]


class TestArrival:
    def test_a_moment_and_its_ids_agree(self) -> None:
        made_id = new_id()
        assert first_id_of(arrival_of(made_id)) <= made_id
        assert first_id_of(arrival_of(made_id) + timedelta(milliseconds=1)) > made_id
        assert first_id_of(datetime(1, 1, 1, tzinfo=UTC)).int >> 80 == 0
