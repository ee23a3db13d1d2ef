"""Limits over the API: set, seen, enforced, removed."""

from typing import Any

import pytest
import pytest_asyncio
from tests.graphql.test_inference import CREATE, chat

from raymart_core.ids import Prefix, new_id, show
from support.api_server import Api, Seller, Tenant
from support.scripted_replica import ScriptedReplica

SET = """
mutation ($input: SetInferenceLimitsInput!) {
  setInferenceLimits(input: $input) {
    inferenceLimits { requestsPerMinute tokensPerMinute concurrentRequests }
    userErrors { code field message }
  }
}
"""
REMOVE = """
mutation ($input: RemoveInferenceLimitsInput!) {
  removeInferenceLimits(input: $input) { removed userErrors { code field message } }
}
"""
ALLOW = """
mutation ($input: SetInferenceAllowanceInput!) {
  setInferenceAllowance(input: $input) {
    inferenceAllowance { requestsPerMinute tokensPerMinute concurrentRequests }
    userErrors { code field message }
  }
}
"""
DISALLOW = """
mutation ($input: RemoveInferenceAllowanceInput!) {
  removeInferenceAllowance(input: $input) { removed userErrors { code field message } }
}
"""
SEEN = """
query ($id: ID!) {
  node(id: $id) {
    ... on Organization { inferenceLimits { requestsPerMinute } inferenceAllowance { requestsPerMinute } }
    ... on Project { inferenceLimits { requestsPerMinute } }
    ... on ApiKey { inferenceLimits { requestsPerMinute } }
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


def limit(scope_id: str, **limits: Any) -> dict[str, Any]:
    return {"scopeId": scope_id, "limits": limits}


async def seen(api: Api, customer: Tenant, scope_id: str) -> dict[str, Any]:
    return (await api(SEEN, customer.owner, id=scope_id)).data["node"]


class TestSetInferenceLimits:
    @pytest.mark.parametrize("scope", ["ORGANIZATION", "PROJECT", "API_KEY"])
    async def test_they_are_seen_where_they_were_set_and_a_repeat_replaces_them(
        self, api: Api, customer: Tenant, scopes: dict[str, str], scope: str
    ) -> None:
        first = limit(scopes[scope], tokensPerMinute="3000000000", concurrentRequests=7)
        data = (await api(SET, customer.owner, input=first)).data["setInferenceLimits"]
        assert data == {
            "inferenceLimits": {
                "requestsPerMinute": None,
                "tokensPerMinute": "3000000000",
                "concurrentRequests": 7,
            },
            "userErrors": [],
        }
        await api(SET, customer.owner, input=limit(scopes[scope], requestsPerMinute=500))
        for each, scope_id in scopes.items():
            expected = {"requestsPerMinute": 500} if each == scope else None
            assert (await seen(api, customer, scope_id))["inferenceLimits"] == expected
        gone = await api(REMOVE, customer.owner, input={"scopeId": scopes[scope]})
        assert gone.data["removeInferenceLimits"] == {"removed": True, "userErrors": []}
        assert (await seen(api, customer, scopes[scope]))["inferenceLimits"] is None

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"requestsPerMinute": 0}, "requestsPerMinute"),
            ({"requestsPerMinute": 10_000_001}, "requestsPerMinute"),
            ({"tokensPerMinute": "-1"}, "tokensPerMinute"),
            ({"concurrentRequests": 1_000_001}, "concurrentRequests"),
            ({}, "limits"),
        ],
    )
    async def test_unfit_limits_are_user_errors(
        self, api: Api, customer: Tenant, given: dict[str, Any], field: str
    ) -> None:
        data = (await api(SET, customer.owner, input=limit(customer.id, **given))).data["setInferenceLimits"]
        [error] = data["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", field])

    @pytest.mark.parametrize("scope_id", ["nonsense", "node_" + "0" * 32, "org_1"])
    async def test_what_names_nothing_is_refused(self, api: Api, customer: Tenant, scope_id: str) -> None:
        given = limit(scope_id, requestsPerMinute=1)
        assert (await api(SET, customer.owner, input=given)).code == "BAD_USER_INPUT"

    async def test_another_tenants_things_are_out_of_reach(
        self, api: Api, stranger: Tenant, scopes: dict[str, str]
    ) -> None:
        for scope_id in (*scopes.values(), show(Prefix.API_KEY, new_id())):
            given = limit(scope_id, requestsPerMinute=1)
            assert (await api(SET, stranger.owner, input=given)).code == "FORBIDDEN"

    async def test_a_request_beyond_them_is_refused_and_after_their_removal_served(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        await api(SET, customer.owner, input=limit(customer.id, requestsPerMinute=1))
        asked = chat(seller, projectId=show(Prefix.PROJECT, customer.project_id))
        first, second = [
            (await api(CREATE, customer.owner, input=asked)).data["createChatCompletion"] for _ in range(2)
        ]
        assert first["userErrors"] == []
        [error] = second["userErrors"]
        assert error["code"] == "RATE_LIMITED"
        assert "1 requests a minute" in error["message"]
        assert len(replica.exchanges) == 1
        await api(REMOVE, customer.owner, input={"scopeId": customer.id})
        data = (await api(CREATE, customer.owner, input=asked)).data["createChatCompletion"]
        assert data["userErrors"] == []

    async def test_removing_nothing_is_a_user_error(self, api: Api, customer: Tenant) -> None:
        data = (await api(REMOVE, customer.owner, input={"scopeId": customer.id})).data
        [error] = data["removeInferenceLimits"]["userErrors"]
        assert (error["code"], error["field"]) == ("NOT_FOUND", ["input", "scopeId"])


class TestSetInferenceAllowance:
    async def test_it_stands_in_the_place_of_the_default_until_it_is_removed(
        self, api: Api, customer: Tenant
    ) -> None:
        administrator = await api.admin()
        default = (await seen(api, customer, customer.id))["inferenceAllowance"]
        assert default == {"requestsPerMinute": 300_000}
        given = {"organizationId": customer.id, "limits": {"requestsPerMinute": 900_000}}
        data = (await api(ALLOW, administrator, input=given)).data["setInferenceAllowance"]
        assert data["userErrors"] == []
        found = await seen(api, customer, customer.id)
        assert found == {"inferenceLimits": None, "inferenceAllowance": {"requestsPerMinute": 900_000}}
        await api(DISALLOW, administrator, input={"organizationId": customer.id})
        assert (await seen(api, customer, customer.id))["inferenceAllowance"] == default

    async def test_no_member_gives_it_themselves(self, api: Api, customer: Tenant) -> None:
        given = {"organizationId": customer.id, "limits": {"requestsPerMinute": 900_000}}
        assert (await api(ALLOW, customer.owner, input=given)).code == "FORBIDDEN"
        gone = await api(DISALLOW, customer.owner, input={"organizationId": customer.id})
        assert gone.code == "FORBIDDEN"
