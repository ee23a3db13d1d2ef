"""API keys from outside: what they may do, how they are changed and rotated, and what their holders see."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from raymart_core.ids import Prefix, parse, show
from raymart_graphql.services import build_services, running
from raymart_marketplace.accounts.models import ApiKey, Role
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Seller, Tenant
from support.link_market import until
from support.scripted_replica import ScriptedReplica

FIELDS = """
fragment Fields on ApiKey {
  id name prefix scopes models expiresAt rotatedAt formerSecretEndsAt budgets { period limit { amount } }
}
"""
CREATE = (
    FIELDS
    + """mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) { secret apiKey { ...Fields } userErrors { code field message } }
}"""
)
UPDATE = (
    FIELDS
    + """mutation ($input: UpdateApiKeyInput!) {
  updateApiKey(input: $input) { apiKey { ...Fields } userErrors { code field } }
}"""
)
ROTATE = (
    FIELDS
    + """mutation ($input: RotateApiKeyInput!) {
  rotateApiKey(input: $input) { secret apiKey { ...Fields } userErrors { code field } }
}"""
)
REVOKE = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { userErrors { code } } }"
CALLING = "{ callingKey { scopes models key { name lastUsedAt } budgets { period } } }"


class Made:
    """A key made through the API."""

    def __init__(self, payload: dict[str, Any]) -> None:
        assert payload["userErrors"] == []
        self.secret: str = payload["secret"]
        self.key: dict[str, Any] = payload["apiKey"]
        self.id: str = self.key["id"]

    @property
    def uuid(self) -> UUID:
        return parse(Prefix.API_KEY, self.id)


async def make(api: Api, tenant: Tenant, **given: Any) -> Made:
    asked = {"projectId": tenant.project, "name": "key", **given}
    return Made((await api(CREATE, tenant.owner, input=asked)).data["createApiKey"])


async def change(api: Api, tenant: Tenant, query: str, **given: Any) -> dict[str, Any]:
    answer = await api(query, tenant.people[Role.DEVELOPER], input=given)
    [payload] = answer.data.values()
    return payload


async def works(api: Api, secret: str) -> bool:
    answer = await api.client.get("/v1/models", headers=bearer(secret))
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def chat(seller: Seller) -> dict[str, Any]:
    return {
        "model": seller.model_slug,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2,
    }


class TestScopes:
    async def test_key_has_inference_and_models_unless_told(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        assert made.key["scopes"] == ["INFERENCE", "MODELS_READ"]
        assert made.key["models"] is None

    async def test_key_without_inference_is_refused_before_anything_is_held(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        made = await make(api, customer, scopes=["MODELS_READ"])
        for stream in (False, True):
            answer = await api.client.post(
                "/v1/chat/completions", json=chat(seller) | {"stream": stream}, headers=bearer(made.secret)
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
        asked = {"model": seller.model_slug, "messages": [{"role": "USER", "content": "hi"}]}
        mutation = "mutation ($i: CreateChatCompletionInput!) { createChatCompletion(input: $i) { userErrors { code } } }"
        refused = (await api(mutation, made.secret, i=asked)).data["createChatCompletion"]
        assert refused["userErrors"] == [{"code": "INSUFFICIENT_SCOPE"}]
        assert replica.exchanges == []
        requests = await api(
            "query ($id: ID!) { organization(id: $id) { usageRecords { nodes { id } } balance { pending { amount } } } }",
            customer.owner,
            id=customer.id,
        )
        assert requests.data["organization"]["usageRecords"]["nodes"] == []

    async def test_key_without_models_read_may_not_list(self, api: Api, customer: Tenant):
        made = await make(api, customer, scopes=["INFERENCE"])
        answer = await api.client.get("/v1/models", headers=bearer(made.secret))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")

    async def test_no_scope_at_all_is_a_user_error(self, api: Api, customer: Tenant):
        given = {"projectId": customer.project, "name": "k", "scopes": []}
        made = (await api(CREATE, customer.owner, input=given)).data["createApiKey"]
        assert [(error["code"], error["field"]) for error in made["userErrors"]] == [
            ("INVALID", ["input", "scopes"])
        ]


class TestModels:
    async def test_key_for_one_model_sees_and_uses_that_alone(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        other = await api.seller()
        made = await make(api, customer, models=[other.model_slug])
        answer = await api.client.post("/v1/chat/completions", json=chat(seller), headers=bearer(made.secret))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
        assert replica.exchanges == []
        listed = []
        async with asyncio.timeout(30):
            # The catalog is remembered for seconds: another test may have had it read before this model was made.
            while not listed:
                listed = (await api.client.get("/v1/models", headers=bearer(made.secret))).json()["data"]
                await asyncio.sleep(0.05)
        assert {model["id"] for model in listed} == {other.model_slug}
        one = await api.client.get(f"/v1/models/{seller.model_slug}", headers=bearer(made.secret))
        assert one.status_code == 403
        await change(api, customer, UPDATE, apiKeyId=made.id, models=[seller.model_slug])
        answer = await api.client.post("/v1/chat/completions", json=chat(seller), headers=bearer(made.secret))
        assert answer.status_code == 200

    async def test_unknown_model_is_a_user_error(self, api: Api, customer: Tenant):
        given = {"projectId": customer.project, "name": "k", "models": ["no/such"]}
        made = (await api(CREATE, customer.owner, input=given)).data["createApiKey"]
        assert [error["field"] for error in made["userErrors"]] == [["input", "models"]]


class TestBudgets:
    async def test_key_is_made_with_its_budgets(self, api: Api, customer: Tenant):
        made = await make(
            api,
            customer,
            budgets=[{"period": "DAILY", "limit": "1.5"}, {"period": "LIFETIME", "limit": "20"}],
        )
        answer = await api(
            "query ($id: ID!) { node(id: $id) { ... on ApiKey { budgets { period limit { amount } } } } }",
            customer.owner,
            id=made.id,
        )
        limits = {budget["period"]: budget["limit"]["amount"] for budget in answer.data["node"]["budgets"]}
        assert {period: float(limit) for period, limit in limits.items()} == {"DAILY": 1.5, "LIFETIME": 20}

    @pytest.mark.parametrize(
        "budgets",
        [
            [{"period": "DAILY", "limit": "1"}, {"period": "DAILY", "limit": "2"}],
            [{"period": "DAILY", "limit": "0"}],
            [{"period": "DAILY", "limit": "1e-30"}],
        ],
    )
    async def test_wrong_budget_leaves_no_key(
        self, api: Api, customer: Tenant, budgets: list[dict[str, str]]
    ):
        given = {"projectId": customer.project, "name": "k", "budgets": budgets}
        made = (await api(CREATE, customer.owner, input=given)).data["createApiKey"]
        assert made["userErrors"]
        async with session_scope(api.services.sessions) as session:
            assert (
                await session.scalars(select(ApiKey).where(ApiKey.project_id == customer.project_id))
            ).all() == []


class TestUpdate:
    async def test_what_is_left_out_stays_and_null_lifts_a_limit(
        self, api: Api, customer: Tenant, seller: Seller
    ):
        made = await make(
            api, customer, models=[seller.model_slug], expiresAt="2030-01-01T00:00:00Z", scopes=["KEYS_READ"]
        )
        renamed = await change(api, customer, UPDATE, apiKeyId=made.id, name="other")
        assert renamed["apiKey"] == made.key | {"name": "other"}
        lifted = await change(api, customer, UPDATE, apiKeyId=made.id, models=None, expiresAt=None)
        assert lifted["apiKey"] == made.key | {"name": "other", "models": None, "expiresAt": None}

    @pytest.mark.parametrize(
        ("seconds", "taken"), [(0, True), (86_400, True), (86_401, False), (-1, False), (None, True)]
    )
    async def test_answers_are_cached_for_a_day_at_most(self, api: Api, customer: Tenant, seconds, taken):
        made = await make(api, customer)
        changed = await change(api, customer, UPDATE, apiKeyId=made.id, answerCacheSeconds=seconds)
        fields = [error["field"] for error in changed["userErrors"]]
        assert fields == ([] if taken else [["input", "answerCacheSeconds"]])
        found = await api("query ($id: ID!) { node(id: $id) { ... on ApiKey { answerCacheSeconds } } }", customer.owner, id=made.id)  # fmt: skip
        # None: as the project says.
        assert found.data["node"]["answerCacheSeconds"] == (seconds if taken else None)

    async def test_change_counts_at_once(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        assert await works(api, made.secret)
        await change(api, customer, UPDATE, apiKeyId=made.id, scopes=["INFERENCE"])
        answer = await api.client.get("/v1/models", headers=bearer(made.secret))
        assert answer.status_code == 403

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"name": None}, "name"),
            ({"scopes": None}, "scopes"),
            ({"name": " "}, "name"),
            ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
            ({"models": []}, "models"),
        ],
    )
    async def test_wrong_value_is_a_user_error(self, api: Api, customer: Tenant, given: Any, field: str):
        made = await make(api, customer)
        payload = await change(api, customer, UPDATE, apiKeyId=made.id, **given)
        assert [error["field"] for error in payload["userErrors"]] == [["input", field]]

    async def test_revoked_key_is_not_brought_back(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        await api(REVOKE, customer.owner, id=made.id)
        for query in (UPDATE, ROTATE):
            payload = await change(api, customer, query, apiKeyId=made.id)
            assert [error["code"] for error in payload["userErrors"]] == ["CONFLICT"]


class TestRotation:
    async def test_both_secrets_work_during_the_overlap_for_one_key(self, api: Api, customer: Tenant):
        made = await make(api, customer, budgets=[{"period": "DAILY", "limit": "1"}])
        rotated = await change(api, customer, ROTATE, apiKeyId=made.id, overlapSeconds=600)
        assert rotated["apiKey"]["id"] == made.id
        assert rotated["apiKey"]["budgets"] == made.key["budgets"]
        assert rotated["secret"] != made.secret
        callers = [
            await api.services.authenticator.caller(f"Bearer {secret}".encode())
            for secret in (made.secret, rotated["secret"])
        ]
        assert callers[0] == callers[1]
        assert callers[0].api_key_id == made.uuid

    async def test_without_overlap_the_old_secret_ends_at_once(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        assert await works(api, made.secret)
        rotated = await change(api, customer, ROTATE, apiKeyId=made.id, overlapSeconds=0)
        assert rotated["apiKey"]["formerSecretEndsAt"] is None
        assert not await works(api, made.secret)
        assert await works(api, rotated["secret"])

    async def test_old_secret_ends_with_the_overlap_though_it_was_remembered(
        self, api: Api, customer: Tenant
    ):
        made = await make(api, customer)
        rotated = await change(api, customer, ROTATE, apiKeyId=made.id, overlapSeconds=1)
        assert await works(api, made.secret)
        async with asyncio.timeout(30):
            while await works(api, made.secret):
                await asyncio.sleep(0.05)
        assert await works(api, rotated["secret"])

    async def test_second_rotation_ends_the_first_secret(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        second = await change(api, customer, ROTATE, apiKeyId=made.id)
        third = await change(api, customer, ROTATE, apiKeyId=made.id)
        assert [await works(api, secret) for secret in (made.secret, second["secret"], third["secret"])] == [
            False,
            True,
            True,
        ]

    async def test_revoking_ends_both(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        rotated = await change(api, customer, ROTATE, apiKeyId=made.id)
        await api(REVOKE, customer.owner, id=made.id)
        assert not await works(api, made.secret)
        assert not await works(api, rotated["secret"])

    @pytest.mark.parametrize("overlap", [-1, 86_401])
    async def test_overlap_out_of_range_is_a_user_error(self, api: Api, customer: Tenant, overlap: int):
        made = await make(api, customer)
        payload = await change(api, customer, ROTATE, apiKeyId=made.id, overlapSeconds=overlap)
        assert [error["field"] for error in payload["userErrors"]] == [["input", "overlapSeconds"]]


class TestListing:
    QUERY = """query ($id: ID!, $state: ApiKeyState, $scope: KeyScope, $project: ID, $after: String) {
      organization(id: $id) {
        apiKeys(first: 2, after: $after, state: $state, scope: $scope, projectId: $project) {
          nodes { name } pageInfo { endCursor hasNextPage }
        }
      }
    }"""

    async def test_keys_are_told_apart_and_paged(self, api: Api, customer: Tenant, stranger: Tenant):
        for name in ("a", "b", "c"):
            await make(api, customer, name=name)
        revoked = await make(api, customer, name="revoked")
        await api(REVOKE, customer.owner, id=revoked.id)
        expired = await make(api, customer, name="expired", scopes=["KEYS_READ"])
        async with session_scope(api.services.sessions) as session:
            row = await session.get_one(ApiKey, expired.uuid)
            row.expires_at = row.created_at

        async def names(**asked: Any) -> list[str]:
            found: list[str] = []
            after = None
            while True:
                answer = await api(self.QUERY, customer.owner, id=customer.id, after=after, **asked)
                page = answer.data["organization"]["apiKeys"]
                found += [node["name"] for node in page["nodes"]]
                after = page["pageInfo"]["endCursor"]
                if not page["pageInfo"]["hasNextPage"]:
                    return found

        assert await names() == ["expired", "revoked", "c", "b", "a"]
        assert await names(state="ACTIVE") == ["c", "b", "a"]
        assert await names(state="REVOKED") == ["revoked"]
        assert await names(state="EXPIRED") == ["expired"]
        assert await names(scope="KEYS_READ") == ["expired"]
        assert await names(project=customer.project, state="ACTIVE") == ["c", "b", "a"]
        assert await names(project=stranger.project) == []


class TestCallingKey:
    async def test_key_sees_itself_and_what_its_scopes_let_it(
        self, api: Api, customer: Tenant, seller: Seller
    ):
        await make(api, customer, name="other")
        made = await make(api, customer, name="mine", scopes=["USAGE_READ", "KEYS_READ"])
        answer = await api(CALLING, made.secret)
        assert answer.data["callingKey"]["key"]["name"] == "mine"
        assert answer.data["callingKey"]["scopes"] == ["KEYS_READ", "USAGE_READ"]
        seen = await api(
            """{ callingKey { projectKeys { nodes { name } }
                 usageByDay(since: "2026-01-01", until: "2026-02-01") { day } } }""",
            made.secret,
        )
        assert [key["name"] for key in seen.data["callingKey"]["projectKeys"]["nodes"]] == ["mine", "other"]
        assert seen.data["callingKey"]["usageByDay"] == []

    async def test_key_without_the_scope_is_refused(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        for field in (
            "projectKeys { nodes { id } }",
            'usageByDay(since: "2026-01-01", until: "2026-01-02") { day }',
        ):
            assert (await api(f"{{ callingKey {{ {field} }} }}", made.secret)).code == "FORBIDDEN"

    async def test_key_reaches_nothing_else_of_its_organization(self, api: Api, customer: Tenant):
        made = await make(api, customer, scopes=[scope.name for scope in KeyScope])
        assert (
            await api("query ($id: ID!) { organization(id: $id) { id } }", made.secret, id=customer.id)
        ).code == ("FORBIDDEN")
        for identity in (customer.id, customer.project, made.id):
            answer = await api("query ($id: ID!) { node(id: $id) { id } }", made.secret, id=identity)
            assert answer.errors or answer.data["node"] is None


class TestKeyRoute:
    async def test_key_reads_itself_in_openrouters_shape(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        made = await make(
            api,
            customer,
            name="mine",
            budgets=[{"period": "DAILY", "limit": "1.5"}, {"period": "MONTHLY", "limit": "20"}],
        )
        asked = await api.client.post("/v1/chat/completions", json=chat(seller), headers=bearer(made.secret))
        assert asked.status_code == 200
        answer = await api.client.get("/v1/key", headers=bearer(made.secret))
        data = answer.json()["data"]
        assert answer.status_code == 200
        assert data["label"] == made.key["prefix"]
        assert (data["limit"], data["limit_reset"]) == (1.5, "daily")
        assert data["scopes"] == ["inference", "models:read"]
        assert {each["level"] for each in data["rate_limits"]} >= {"organization"}
        assert data["answer_cache_seconds"] == 0
        assert data["is_free_tier"] is data["is_provisioning_key"] is False

        async def posted() -> bool:
            found = (await api.client.get("/v1/key", headers=bearer(made.secret))).json()["data"]
            cost = float(asked.headers["x-raymart-cost"])
            usages = {found[f"usage{suffix}"] for suffix in ("", "_daily", "_weekly", "_monthly")}
            return usages == {cost} and found["limit_remaining"] == pytest.approx(1.5 - cost)

        async with asyncio.timeout(20):
            while not await posted():
                await asyncio.sleep(0.1)

    async def test_person_is_told_that_it_is_for_keys(self, api: Api, customer: Tenant):
        answer = await api.client.get("/v1/key", headers=bearer(customer.owner.token))
        assert answer.status_code == 403

    async def test_stranger_is_refused(self, api: Api):
        assert (await api.client.get("/v1/key")).status_code == 401


class TestLastUse:
    async def test_use_is_shown_once_it_is_written(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        query = "query ($id: ID!) { node(id: $id) { ... on ApiKey { lastUsedAt } } }"
        assert (await api(query, customer.owner, id=made.id)).data["node"] == {"lastUsedAt": None}
        assert await works(api, made.secret)
        await api.services.key_uses.write()
        assert (await api(query, customer.owner, id=made.id)).data["node"]["lastUsedAt"]


class TestOtherProcesses:
    async def test_revocation_reaches_another_process_at_once(self, api: Api, customer: Tenant):
        """The other process would otherwise believe the key for its ten seconds."""
        made = await make(api, customer)
        other = build_services(api.services.settings)
        async with running(other):
            await until(other.forgetting.listening.is_set)
            header = f"Bearer {made.secret}".encode()
            await other.authenticator.caller(header)
            assert len(other.authenticator._known) == 1
            await api(REVOKE, customer.owner, id=show(Prefix.API_KEY, made.uuid))
            await until(lambda: len(other.authenticator._known) == 0)
