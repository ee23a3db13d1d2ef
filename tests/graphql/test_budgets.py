"""Budgets over the API: set, seen, enforced, removed."""

from typing import Any

import pytest
import pytest_asyncio
from tests.graphql.test_inference import CREATE, chat

from raymart_core.ids import Prefix, new_id, show
from support.api_server import Api, Seller, Tenant
from support.scripted_replica import ScriptedReplica

SET = """
mutation ($input: SetBudgetInput!) {
  setBudget(input: $input) {
    budget { scope scopeId period limit { amount } spent { amount } reserved { amount } resetsAt }
    userErrors { code field message }
  }
}
"""
REMOVE = """
mutation ($input: RemoveBudgetInput!) {
  removeBudget(input: $input) { removed userErrors { code field message } }
}
"""
SEEN = """
query ($id: ID!) {
  node(id: $id) {
    ... on Organization { budgets { period limit { amount } spent { amount } } }
    ... on Project { budgets { period limit { amount } spent { amount } } }
    ... on ApiKey { budgets { period limit { amount } spent { amount } } }
  }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def scopes(api: Api, customer: Tenant) -> dict[str, str]:
    key_id, _ = await api.api_key(customer)
    return {
        "ORGANIZATION": customer.id,
        "PROJECT": show(Prefix.PROJECT, customer.project_id),
        "API_KEY": show(Prefix.API_KEY, key_id),
    }


def limit(scope_id: str, amount: str, period: str = "DAILY") -> dict[str, Any]:
    return {"scopeId": scope_id, "period": period, "limit": amount}


class TestSetBudget:
    @pytest.mark.parametrize("scope", ["ORGANIZATION", "PROJECT", "API_KEY"])
    async def test_it_is_seen_where_it_was_set_and_a_repeat_changes_it(
        self, api: Api, customer: Tenant, scopes: dict[str, str], scope: str
    ) -> None:
        for amount in ("2.500000001", "3.000000000"):
            data = (await api(SET, customer.owner, input=limit(scopes[scope], amount))).data["setBudget"]
            assert data["userErrors"] == []
            assert data["budget"] | {"resetsAt": None} == {
                "scope": scope, "scopeId": scopes[scope], "period": "DAILY", "limit": {"amount": amount},
                "spent": {"amount": "0.000000000"}, "reserved": {"amount": "0.000000000"}, "resetsAt": None,
            }  # fmt: skip
            assert "T00:00:00" in data["budget"]["resetsAt"]
        for each in scopes.values():
            [*budgets] = (await api(SEEN, customer.owner, id=each)).data["node"]["budgets"]
            expected = {
                "period": "DAILY",
                "limit": {"amount": "3.000000000"},
                "spent": {"amount": "0.000000000"},
            }
            assert budgets == ([expected] if each == scopes[scope] else [])

    @pytest.mark.parametrize("amount", ["0", "-1", "0.0000000001", "1e30"])
    async def test_unfit_limit_is_a_user_error(self, api: Api, customer: Tenant, amount: str) -> None:
        [error] = (await api(SET, customer.owner, input=limit(customer.id, amount))).data["setBudget"][
            "userErrors"
        ]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "limit"])

    async def test_a_float_is_refused_before_anything_runs(self, api: Api, customer: Tenant) -> None:
        given = limit(customer.id, "1") | {"limit": 1.5}
        assert (await api(SET, customer.owner, input=given)).code == "BAD_USER_INPUT"

    @pytest.mark.parametrize("scope_id", ["nonsense", "node_" + "0" * 32, "org_1"])
    async def test_what_names_nothing_is_refused(self, api: Api, customer: Tenant, scope_id: str) -> None:
        assert (await api(SET, customer.owner, input=limit(scope_id, "1"))).code == "BAD_USER_INPUT"

    async def test_another_tenants_things_are_out_of_reach(
        self, api: Api, customer: Tenant, stranger: Tenant, scopes: dict[str, str]
    ) -> None:
        for scope_id in (*scopes.values(), show(Prefix.API_KEY, new_id())):
            assert (await api(SET, stranger.owner, input=limit(scope_id, "1"))).code == "FORBIDDEN"

    async def test_a_request_beyond_it_is_refused_and_after_its_removal_served(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        await api(SET, customer.owner, input=limit(customer.id, "0.000000001"))
        asked = chat(seller, projectId=show(Prefix.PROJECT, customer.project_id))
        [error] = (await api(CREATE, customer.owner, input=asked)).data["createChatCompletion"]["userErrors"]
        assert error["code"] == "BUDGET_EXCEEDED"
        assert "daily" in error["message"]
        assert not replica.exchanges
        gone = await api(REMOVE, customer.owner, input={"scopeId": customer.id, "period": "DAILY"})
        assert gone.data["removeBudget"] == {"removed": True, "userErrors": []}
        data = (await api(CREATE, customer.owner, input=asked)).data["createChatCompletion"]
        assert data["userErrors"] == []


class TestRemoveBudget:
    async def test_what_is_not_there_is_a_user_error(self, api: Api, customer: Tenant) -> None:
        given = {"scopeId": customer.id, "period": "LIFETIME"}
        [error] = (await api(REMOVE, customer.owner, input=given)).data["removeBudget"]["userErrors"]
        assert error["code"] == "NOT_FOUND"
