"""Statements, reversals, snapshots and checks over GraphQL."""

from typing import Any

import pytest_asyncio
from tests.graphql.test_admin import GRANT, grant

from support.api_server import Api, Person, Tenant

STATEMENT = """
query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
  organization(id: $id) {
    statement(first: $first, after: $after, last: $last, before: $before) {
      edges { cursor node { transferId code change { amount } balance { amount } createdAt } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }
}
"""
REVERSE = """
mutation ($input: ReverseTransfersInput!) {
  reverseTransfers(input: $input) {
    transfers { id code reason reversesId amount { amount } }
    userErrors { code field message }
  }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return await api.admin()


@pytest_asyncio.fixture(loop_scope="session")
async def granted(api: Api, admin: Person) -> tuple[Tenant, list[str]]:
    """A new customer with grants of 1, 2, 3, 4 and 5 dollars; ids of the transfers."""
    tenant = await api.tenant()
    ids = []
    for dollars in range(1, 6):
        answer = await api(GRANT, admin, input=grant(tenant, str(dollars)))
        ids.append(answer.data["grantCredit"]["transfer"]["id"])
    return tenant, ids


async def page(api: Api, who: Person, tenant: Tenant, **arguments: object) -> dict[str, Any]:
    answer = await api(STATEMENT, who, id=tenant.id, **arguments)
    return answer.data["organization"]["statement"]


def dollars(found: dict[str, Any]) -> list[tuple[float, float]]:
    nodes = [edge["node"] for edge in found["edges"]]
    return [(float(node["change"]["amount"]), float(node["balance"]["amount"])) for node in nodes]


class TestStatement:
    async def test_a_customer_sees_its_own_with_the_running_balance(
        self, api: Api, granted: tuple[Tenant, list[str]]
    ) -> None:
        tenant, ids = granted
        found = await page(api, tenant.owner, tenant, first=10)
        assert dollars(found) == [(5, 15), (4, 10), (3, 6), (2, 3), (1, 1)]
        assert [edge["node"]["transferId"] for edge in found["edges"]] == ids[::-1]

    async def test_pages_follow_each_other_from_both_ends(
        self, api: Api, granted: tuple[Tenant, list[str]]
    ) -> None:
        tenant, _ = granted
        first = await page(api, tenant.owner, tenant, first=2)
        assert (dollars(first), first["pageInfo"]["hasNextPage"]) == ([(5, 15), (4, 10)], True)
        second = await page(api, tenant.owner, tenant, first=2, after=first["pageInfo"]["endCursor"])
        assert dollars(second) == [(3, 6), (2, 3)]
        last = await page(api, tenant.owner, tenant, last=2)
        assert (dollars(last), last["pageInfo"]["hasPreviousPage"]) == ([(2, 3), (1, 1)], True)
        before = await page(api, tenant.owner, tenant, last=2, before=last["pageInfo"]["startCursor"])
        assert dollars(before) == [(4, 10), (3, 6)]

    async def test_a_stranger_sees_no_statement(
        self, api: Api, granted: tuple[Tenant, list[str]], stranger: Tenant
    ) -> None:
        tenant, _ = granted
        answer = await api(STATEMENT, stranger.owner, id=tenant.id, first=1)
        assert answer.data["organization"] is None

    async def test_the_cursor_of_another_list_is_refused(
        self, api: Api, granted: tuple[Tenant, list[str]]
    ) -> None:
        tenant, _ = granted
        answer = await api(STATEMENT, tenant.owner, id=tenant.id, first=1, after="bm9uc2Vuc2U=")
        assert answer.errors

    async def test_who_never_had_credit_has_an_empty_one(self, api: Api) -> None:
        tenant = await api.tenant()
        assert (await page(api, tenant.owner, tenant, first=5))["edges"] == []


class TestReverseTransfers:
    async def test_a_grant_goes_back_with_its_reason_once(
        self, api: Api, admin: Person, granted: tuple[Tenant, list[str]]
    ) -> None:
        tenant, ids = granted
        given = {"transferIds": [ids[0]], "reason": "typing mistake"}
        first = (await api(REVERSE, admin, input=given)).data["reverseTransfers"]
        assert first["userErrors"] == []
        [mirror] = first["transfers"]
        assert (mirror["code"], mirror["reason"], mirror["reversesId"]) == (
            "REVERSAL",
            "typing mistake",
            ids[0],
        )
        assert (await api(REVERSE, admin, input=given)).data["reverseTransfers"] == first
        other = {**given, "reason": "another"}
        refused = (await api(REVERSE, admin, input=other)).data["reverseTransfers"]
        assert refused["userErrors"][0]["code"] == "CONFLICT"
        assert dollars(await page(api, tenant.owner, tenant, first=1)) == [(-1, 14)]

    async def test_an_unknown_transfer_and_an_empty_reason_are_user_errors(
        self, api: Api, admin: Person, granted: tuple[Tenant, list[str]]
    ) -> None:
        _, ids = granted
        empty = (await api(REVERSE, admin, input={"transferIds": [ids[1]], "reason": " "})).data
        assert empty["reverseTransfers"]["userErrors"][0]["field"] == ["input", "reason"]
        unknown = {"transferIds": ["tr_000000000000000000ffffffffffffff"], "reason": "x"}
        answer = (await api(REVERSE, admin, input=unknown)).data["reverseTransfers"]
        assert answer["userErrors"][0]["code"] == "NOT_FOUND"


class TestHealth:
    async def test_administrators_see_checks_seals_and_snapshots(self, api: Api, admin: Person) -> None:
        query = (
            "{ ledgerHealth { sound sealPosition sealHash checks { kind findings finding checkedAt durationMs } }"
            " ledgerSnapshots(first: 2) { nodes { day takenAt } }"
            " ledgerAccounts(first: 2) { nodes { snapshots(first: 2) { nodes { day creditsPosted { amount } } }"
            " statement(first: 2) { nodes { code balance { amount } } } } } }"
        )
        data = (await api(query, admin)).data
        assert data["ledgerHealth"]["sound"] is True
